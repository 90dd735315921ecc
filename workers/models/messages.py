"""From a request in the transcript's own messages to the messages that a provider is sent, purely.

Whatever a transcript or a client's history holds, the result is valid: at most one system message, first; then user,
assistant and tool messages, the results of an assistant message's calls right behind it, one for each call, under ids
that the request holds once; arguments that are JSON objects; contents of kinds that the model takes, none empty.
Nothing that a person said or a tool did is lost on the way, and a result that is made a request of stays as it is.

This is the hot path of a turn: a plain message is recognised by its bytes, and only others are parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from workers.models.alternation import alternating
from workers.models.attached import attached_to, made_by
from workers.models.calls import CallIds, Calling, as_text, calling, fit_name, written
from workers.models.content import content_for, is_blank, text_of, told
from workers.models.provider import ModelRequest
from workers.models.target import ModelTarget
from workers.turns import PastTurn

EMPTY_MESSAGE = "(an empty message)"
CALL_ELSEWHERE = "[the result of a tool call that is not in this conversation:]"

# A plain message: role and one text, as orjson writes it, keys in either order (canonical ones are sorted).
_USER_FIRST, _ASSISTANT_FIRST = b'{"role":"user","content":"', b'{"role":"assistant","content":"'
_CONTENT_FIRST = b'{"content":"'
_USER_LAST, _ASSISTANT_LAST = b'","role":"user"}', b'","role":"assistant"}'
_QUOTES = 8  # around two keys and two values
# What its text may begin with: no blank, no escape, nothing that may be the first byte of a blank of Unicode.
_INK = frozenset(range(0x21, 0x100)) - {0x22, 0x5C, 0x7F, 0xC2, 0xE1, 0xE2, 0xE3}


def upstream_messages(request: ModelRequest, target: ModelTarget) -> list[bytes]:
    """The chat messages that a provider is sent, each as JSON.

    Args:
        request: as the turn makes it; messages of any shape.
        target: who is asked.
    """
    rows = [row for turn in request.past for row in turn.rows]
    rows += request.messages
    texts, messages = [request.system], rows
    if not (_are_plain(request.past) and all(map(is_plain, request.messages))):  # most hold nothing else
        reading = _Reading(target)
        reading.take(rows)
        texts += reading.system
        messages = reading.messages()
    system = "\n\n".join(text for text in texts if not is_blank(text))
    if system and not target.takes_system:
        messages.insert(0, orjson.dumps({"role": "user", "content": system}))
    if not target.takes_repeated_roles:
        messages = alternating(messages)
    if system and target.takes_system:
        messages.insert(0, orjson.dumps({"role": "system", "content": system}))
    return messages


def _are_plain(past: Iterable[PastTurn]) -> bool:
    for turn in past:
        if turn.is_plain is None:  # looked at once: the hot path of a turn in a long conversation
            turn.is_plain = all(map(is_plain, turn.rows))
        if not turn.is_plain:
            return False
    return True


def is_plain(row: bytes) -> bool:
    """Whether a message, as orjson wrote it, is of the user or the assistant and says one text, and no more than that.

    False may also mean that a closer look is needed.
    """
    if row.startswith(_CONTENT_FIRST):
        begins, tail = len(_CONTENT_FIRST), _USER_LAST if row.endswith(_USER_LAST) else _ASSISTANT_LAST
    elif row.startswith(_USER_FIRST):
        begins, tail = len(_USER_FIRST), b'"}'
    elif row.startswith(_ASSISTANT_FIRST):
        begins, tail = len(_ASSISTANT_FIRST), b'"}'
    else:
        return False
    if row[begins] not in _INK or not row.endswith(tail):
        return False
    if row.find(b'"', begins) == len(row) - len(tail):
        return True
    # Another field would bring four quotes, and at most three of them can look like those that a text has escaped.
    return row.count(b'"') - _QUOTES == row.count(b'\\"')


class _Reading:
    """The messages of a request so far."""

    __slots__ = ("_calling", "_items", "_latest", "_target", "system")

    def __init__(self, target: ModelTarget) -> None:
        self._target = target
        self._items: list[bytes | Calling] = []
        self._calling: list[Calling] = []
        self._latest: dict[str, Calling] = {}  # by id of a call: the last message that has it
        self.system: list[str] = []  # texts of system messages

    def take(self, rows: Iterable[bytes]) -> None:
        """Read on."""
        for row in rows:
            if is_plain(row):
                self._items.append(row)
            else:
                self._look(row)

    def messages(self) -> list[bytes]:
        """What was read, without the system's messages, as a provider takes it."""
        ids = CallIds(self._target, self._latest.keys())
        messages: list[bytes] = []
        for item in self._items:
            if isinstance(item, bytes):
                messages.append(item)
            elif item.is_bare and not self._target.takes_bare_calls:
                messages += as_text(item)
            else:
                messages += written(item, ids, self._target)
        return messages

    def _look(self, row: bytes) -> None:
        try:
            message = orjson.loads(row)
        except orjson.JSONDecodeError:
            message = row.decode(errors="replace")
        if not isinstance(message, dict):
            message = {"content": message}
        match message.get("role"):
            case "system" | "developer":
                self.system.append(told(message.get("content")))
            case "tool" | "function":
                self._take_result(message)
            case "assistant":
                self._take_answer(message, row)
            case _:
                self._take_words(message, row)

    def _take_words(self, message: Mapping[str, Any], row: bytes) -> None:
        content = content_for(message.get("content"), vision=self._target.vision is not False)
        said = self._named({"role": "user", "content": EMPTY_MESSAGE if is_blank(content) else content}, message)
        self._items.append(row if said == message else orjson.dumps(said))

    def _named(self, said: dict[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
        """A message with the name of who speaks, in the form that the model takes."""
        name = fit_name(message.get("name"))
        if not name:
            return said
        if self._target.takes_names:
            return {**said, "name": name}
        content = said["content"]
        if isinstance(content, str):
            return {**said, "content": f"{name}: {content}"}
        return {**said, "content": [{"type": "text", "text": f"{name}:"}, *content]}

    def _take_answer(self, message: Mapping[str, Any], row: bytes) -> None:
        text = told(message.get("content"))
        if is_blank(text):
            text = text_of(message.get("refusal"))
        calls = calling(message, text, self._target)
        if calls is not None:
            self._items.append(calls)
            self._calling.append(calls)
            self._latest.update((call.call_id, calls) for call in calls.calls)
        elif not is_blank(text):
            said = self._named({"role": "assistant", "content": text}, message)
            if self._target.takes_attached and made_by(message) in (None, (self._target.provider, self._target.model)):
                said |= attached_to(message)
            self._items.append(row if said == message else orjson.dumps(said))

    def _take_result(self, message: Mapping[str, Any]) -> None:
        """A result goes to the last call of its id. It may come late, twice, without an id or without any call."""
        text = told(message.get("content"))
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str):
            call_id = self._first_open() if call_id is None else orjson.dumps(call_id).decode()
        if (calls := self._latest.get(call_id)) is not None:
            calls.answer(call_id, text)
        elif not is_blank(text):
            self._items.append(orjson.dumps({"role": "user", "content": f"{CALL_ELSEWHERE}\n{text}"}))

    def _first_open(self) -> str:
        """The id of the first call without a result in the last message with calls."""
        calls = self._calling[-1].calls if self._calling else ()
        return next((call.call_id for call in calls if not call.results), "")
