"""An assistant message that calls tools, with the results of its calls, purely: read in any shape, written as valid.

Which limits of ids and names there are, by provider: an id of 40 characters at most and a name of ``[a-zA-Z0-9_-]``,
64 at most (OpenAI: ``string_above_max_length``, ``invalid_value``); an id of exactly nine letters and digits (Mistral,
and chat templates of its models: error 3280). So a substitute has nine letters and digits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from workers.json_depth import is_too_deep
from workers.models.attached import attached_to, attached_to_call, attached_to_function, made_by
from workers.models.content import is_blank
from workers.models.target import ModelTarget
from workers.models.tool_calls import MAX_ID_CHARS

MAX_RAW_CHARS = 2_000  # of arguments that are no JSON object, in the result of their call
MAX_NAME_CHARS = 64
CALLS_ONLY = "(calling tools)"  # in the place of null; some that refuse null refuse an empty text too
NO_RESULT = "no result was given"
NOTHING_RETURNED = "(the tool returned nothing)"
ANOTHER_RESULT = "[another result of the same call]"

_UNFIT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def fit_name(name: Any) -> str:
    """A name as all providers take one; empty where there is none."""
    return _UNFIT_IN_NAME.sub("_", name)[:MAX_NAME_CHARS] if isinstance(name, str) else ""


@dataclass(slots=True, kw_only=True)
class PastCall:
    """A tool call, and what came of it."""

    call_id: str
    name: str
    arguments: str  # a JSON object
    raw: str  # what the model wrote where that is no JSON object, bounded; else empty
    attached: Mapping[str, Any]  # by its maker
    attached_to_function: Mapping[str, Any]
    results: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """The one result that the model is sent."""
        if not self.results:
            result = NO_RESULT
        else:
            texts = dict.fromkeys(text for text in self.results if not is_blank(text))
            result = f"\n{ANOTHER_RESULT}\n".join(texts) or NOTHING_RETURNED
        return (
            f"[The arguments of this call were no JSON object. They read: {self.raw}]\n{result}" if self.raw else result
        )


@dataclass(slots=True, kw_only=True)
class Calling:
    """An assistant message with calls."""

    text: str
    name: str
    is_targets: bool  # the target made it, as far as is known
    attached: Mapping[str, Any]
    calls: tuple[PastCall, ...]

    def answer(self, call_id: str, text: str) -> None:
        """Give a result to its first call of this id that has none, else to the last one."""
        calls = [call for call in self.calls if call.call_id == call_id]
        call = next((call for call in calls if not call.results), calls[-1])
        call.results.append(text)

    @property
    def is_bare(self) -> bool:
        """Whether nothing is attached to the message and its calls."""
        return not self.attached and not any(call.attached or call.attached_to_function for call in self.calls)


class CallIds:
    """The ids of one request: each is there once.

    Args:
        target: whose ids go back as they came.
        all_of_them: the ids as they came, so that no substitute is one of them.
    """

    def __init__(self, target: ModelTarget, all_of_them: Collection[str]) -> None:
        self._target = target
        self._given: set[str] = set()
        self._known = all_of_them
        self._substitutes: dict[str, int] = {}  # made so far, by the id that they stand for

    def give(self, call_id: str, *, is_targets: bool) -> str:
        """The id of the next call: its own where the target made it and no call before has it, else a substitute."""
        goes_back = is_targets and self._target.takes_long_ids and 0 < len(call_id) <= MAX_ID_CHARS
        if call_id not in self._given and (goes_back or _SHORT_ID.fullmatch(call_id)):
            given = call_id
        else:
            given = self._substitute(call_id)
        self._given.add(given)
        return given

    def _substitute(self, call_id: str) -> str:
        while True:
            number = self._substitutes[call_id] = self._substitutes.get(call_id, 0) + 1
            digest = int.from_bytes(blake2b(f"{number} {call_id}".encode(), digest_size=8).digest())
            substitute = "".join(_DIGITS[digest // 36**place % 36] for place in range(9))
            if substitute not in self._given and substitute not in self._known:
                return substitute


# -- reading ------------------------------------------------------------------------------------------------------


def calling(message: Mapping[str, Any], text: str, target: ModelTarget) -> Calling | None:
    """The calls of an assistant message; None where it has none.

    Args:
        message: as the transcript or a client has it.
        text: of its content.
        target: who is asked.
    """
    entries = message.get("tool_calls")
    if not isinstance(entries, list) or not entries:
        old_form = message.get("function_call")  # before tool_calls
        entries = [{"function": old_form}] if isinstance(old_form, dict) else ()
    maker = made_by(message)
    is_targets = maker is None or maker == (target.provider, target.model)
    keeps_attached = is_targets and target.takes_attached
    calls = tuple(_call(entry, keeps_attached) for entry in entries if isinstance(entry, dict))
    if not calls:
        return None
    return Calling(
        text=text,
        name=fit_name(message.get("name")),
        is_targets=is_targets,
        attached=attached_to(message) if keeps_attached else {},
        calls=calls,
    )


def _call(entry: Mapping[str, Any], keeps_attached: bool) -> PastCall:
    function = entry.get("function")
    custom = entry.get("custom")
    if isinstance(function, dict):
        name, written = function.get("name"), function.get("arguments")
    elif isinstance(custom, dict):
        name, written = custom.get("name"), {"input": custom.get("input")}
    else:
        name, written = entry.get("name"), entry.get("arguments")
    arguments, raw = _arguments(written)
    call_id = entry.get("id")
    return PastCall(
        call_id=call_id if isinstance(call_id, str) else "" if call_id is None else orjson.dumps(call_id).decode(),
        name=fit_name(name) or "unknown",
        arguments=arguments,
        raw=raw,
        attached=attached_to_call(entry) if keeps_attached else {},
        attached_to_function=attached_to_function(function) if keeps_attached and isinstance(function, dict) else {},
    )


def _arguments(written: Any) -> tuple[str, str]:
    """The arguments as a JSON object, and what stood there instead of one, bounded."""
    if written is None:
        return "{}", ""
    text = written if isinstance(written, str) else orjson.dumps(written).decode()
    if not text.strip():
        return "{}", ""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and not is_too_deep(text, value):
        return text, ""
    cut = f"{text[:MAX_RAW_CHARS]}… ({len(text)} characters)" if len(text) > MAX_RAW_CHARS else text
    return "{}", cut


# -- writing ------------------------------------------------------------------------------------------------------


def written(message: Calling, ids: CallIds, target: ModelTarget) -> list[bytes]:
    """The message and its results, as a provider takes them."""
    nothing = None if target.takes_null_content else CALLS_ONLY
    calls, results = [], []
    for call in message.calls:
        call_id = ids.give(call.call_id, is_targets=message.is_targets)
        function = {"name": call.name, "arguments": call.arguments, **call.attached_to_function}
        calls.append({"id": call_id, "type": "function", "function": function, **call.attached})
        results.append(orjson.dumps({"role": "tool", "tool_call_id": call_id, "content": call.result}))
    asking: dict[str, Any] = {"role": "assistant", "content": nothing if is_blank(message.text) else message.text}
    if message.name and target.takes_names:
        asking["name"] = message.name
    return [orjson.dumps({**asking, "tool_calls": calls, **message.attached}), *results]


def as_text(message: Calling) -> list[bytes]:
    """The message and its results in words, for a model that refuses calls which lack what it attaches."""
    said = [] if is_blank(message.text) else [message.text]
    said += [f"[called the tool {call.name} with {call.arguments}]" for call in message.calls]
    results = [f"[the tool {call.name} returned:]\n{call.result}" for call in message.calls]
    return [
        orjson.dumps({"role": "assistant", "content": "\n".join(said)}),
        orjson.dumps({"role": "user", "content": "\n\n".join(results)}),
    ]
