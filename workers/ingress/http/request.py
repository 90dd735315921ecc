"""The body of a chat-completions request, checked by hand: this is the hot path, and clear errors are the point.

What is checked here is the shape; whether a value suits the model is the provider's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import canonical, history_hash
from workers.ingress.http.client_tools import client_tools
from workers.ingress.http.completion import BARE_MODEL, MODEL
from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.http.shapes import ANY, TEXT, Schema, fields_of, record
from workers.json_depth import MAX_DEPTH, is_too_deep

MAX_USER_CHARS = 512
FINGERPRINT_BYTES = 16
_CLIENT_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request for a completion, of the right shape."""

    messages: list[bytes]  # canonical
    new: list[int]  # which of them are new, see :func:`new_part`
    parameters: dict[str, Any]  # for the model, as they are
    user: str
    stream: bool
    include_usage: bool
    bare: bool = False  # it asks the model alone

    @property
    def model(self) -> str:
        """Of the API, as the answer names it."""
        return BARE_MODEL if self.bare else MODEL

    def check_results(self) -> None:
        """See to it that the calls are in the messages whose results are new; in a session they may be there alone.

        Raises:
            ApiError: 400, with the field it is about.
        """
        results = [at for at in self.new if b'"role":"tool"' in self.messages[at]]
        if not results:
            return
        before = (orjson.loads(row) for row in self.messages[: self.history_end] if b'"tool_calls"' in row)
        known = {call["id"] for message in before for call in message["tool_calls"]}
        for at in results:
            if orjson.loads(self.messages[at])["tool_call_id"] not in known:
                where = f"messages[{at}].tool_call_id"
                raise invalid(where, f"`{where}` names no call in the messages before it.", RefusalCode.NO_SUCH_CALL)

    @property
    def new_part(self) -> list[bytes]:
        """What a session takes."""
        return [self.messages[at] for at in self.new]

    @property
    def history_end(self) -> int:
        """How many messages precede what is new."""
        return self.new[0]

    @property
    def history(self) -> bytes:
        """Hash of what precedes what is new."""
        return history_hash(self.messages[: self.history_end])

    def fingerprint(self, *, stateless: bool) -> bytes:
        """Hash of what the turn depends on: the messages that count and the parameters, not how it is answered."""
        counted = self.messages if stateless else self.new_part
        asked = [*counted, orjson.dumps(self.parameters, option=orjson.OPT_SORT_KEYS)]
        return blake2b(b"".join(asked), digest_size=FINGERPRINT_BYTES).digest()


def parse_chat(body: bytes) -> ChatRequest:
    """Check a body.

    Raises:
        ApiError: 400, with the field it is about.
    """
    return chat_request(json_object(body))


def chat_request(request: Mapping[str, Any]) -> ChatRequest:
    """Check the object that a body is.

    Raises:
        ApiError: 400, with the field it is about.
    """
    _refuse_unsupported(request)
    stream = _flag(request, "stream")
    options = request.get("stream_options") or {}
    if not isinstance(options, dict):
        raise invalid("stream_options", "`stream_options` must be an object.")
    messages = _messages(request.get("messages"))
    named = request.keys() & _PARAMETERS.keys()  # most requests name none
    parameters = {name: _parameter(name, request[name]) for name in sorted(named) if request[name] is not None}
    if not request.keys().isdisjoint(_CLIENT_TOOLS):
        parameters |= client_tools(request)
    return ChatRequest(
        messages=messages,
        new=new_part([message["role"] for message in request["messages"]]),
        parameters=parameters,
        user=_user(request.get("user")),
        stream=stream,
        include_usage=_flag(options, "include_usage", "stream_options."),
        bare=request.get("model") == BARE_MODEL,
    )


# -- JSON ---------------------------------------------------------------------------------------------------------


def json_object(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        ApiError: 400; it is none, or too deep.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Its words name a place and a reason, and quote nothing.
        raise invalid(None, f"The body is not valid JSON in UTF-8: {error}", "invalid_json") from None
    if not isinstance(request, dict):
        raise invalid(None, "The body must be a JSON object.", "invalid_json")
    if is_too_deep(body, request):
        raise invalid(None, f"The body is nested deeper than {MAX_DEPTH} levels.", "too_deep")
    return request


# -- fields -------------------------------------------------------------------------------------------------------


def _refuse_unsupported(request: Mapping[str, Any]) -> None:
    model = request.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid("model", "`model` must be a string.")
    if request.get("n") not in (None, 1):
        raise _unsupported("n", "A request gets one answer: leave `n` out, or send 1.")
    for name in ("functions", "function_call"):  # deprecated by OpenAI in favour of tools
        if request.get(name):
            raise _unsupported(
                name, f"`{name}` is not supported: send `tools` and `tool_choice`, which took its place."
            )
    modalities = request.get("modalities")
    if request.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities):
        raise _unsupported("audio", "Audio output is not supported.")


def _unsupported(param: str, message: str) -> ApiError:
    return invalid(param, message, "unsupported_parameter")


def _flag(fields: Mapping[str, Any], name: str, path: str = "") -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(path + name, f"`{path}{name}` must be true or false.")
    return bool(value)


def _user(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_USER_CHARS:
        raise invalid("user", f"`user` must be a string of at most {MAX_USER_CHARS} characters.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_PARAMETERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_is_number, "a number"),
    "top_p": (_is_number, "a number"),
    "presence_penalty": (_is_number, "a number"),
    "frequency_penalty": (_is_number, "a number"),
    "max_tokens": (lambda value: _is_integer(value) and value > 0, "a positive integer"),
    "max_completion_tokens": (lambda value: _is_integer(value) and value > 0, "a positive integer"),
    "seed": (_is_integer, "an integer"),
    "stop": (
        lambda value: _is_text(value) or (isinstance(value, list) and all(map(_is_text, value))),
        "a string or an array of strings",
    ),
    "reasoning_effort": (_is_text, "a string"),
    "verbosity": (_is_text, "a string"),
    "response_format": (
        lambda value: isinstance(value, dict) and _is_text(value.get("type")),
        "an object with a `type`",
    ),
    "logit_bias": (
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
        "an object of numbers",
    ),
}

CHAT_FIELDS: Mapping[str, Schema] = {
    **fields_of(_PARAMETERS),
    "user": {"type": ["string", "null"], "maxLength": MAX_USER_CHARS},
    "model": {"type": ["string", "null"]},
    **dict.fromkeys(sorted(_CLIENT_TOOLS), ANY),
}
STREAMED: Mapping[str, Schema] = {
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": ["boolean", "null"]}}},
}


_INTEGERS = frozenset({"max_tokens", "max_completion_tokens", "seed"})


def _parameter(name: str, value: Any) -> Any:
    if name in _INTEGERS and type(value) is float and value.is_integer():  # as languages without integers write them
        value = int(value)
    fits, what = _PARAMETERS[name]
    if not fits(value):
        raise invalid(name, f"`{name}` must be {what}.")
    return value


# -- messages -----------------------------------------------------------------------------------------------------

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")  # parts that some clients keep in their history
_IMAGE_URLS = ("https://", "http://", "data:image/")
MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": record(
        ["role"],
        role={"enum": sorted(_ROLES)},
        content={"anyOf": [TEXT, {"type": "null"}, {"type": "array", "items": record(["type"], type=TEXT)}]},
    ),
}
CHAT_BODY = record(["messages"], messages=MESSAGES, **STREAMED, **CHAT_FIELDS)


def _messages(value: Any) -> list[bytes]:
    if not isinstance(value, list) or not value:
        raise invalid("messages", "`messages` must be an array with at least one message.")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(value)]


def new_part(roles: Sequence[str]) -> list[int]:
    """Where the new part of a conversation is: results of tools, the last message of the user, what is said behind it.

    Everything stands behind the last message of the assistant. Of several messages of the user the last one is new,
    with the messages of the system behind it.

    Args:
        roles: of all messages, in order.

    Raises:
        ApiError: 400; nothing is new.
    """
    begins = max((at + 1 for at, role in enumerate(roles) if role == "assistant"), default=0)
    results = [at for at in range(begins, len(roles)) if roles[at] == "tool"]
    asked = max((at for at in range(begins, len(roles)) if roles[at] == "user"), default=None)
    if asked is None and not results:
        raise invalid(
            f"messages[{len(roles) - 1}].role",
            "The conversation must end with a message of the user, or with results of tools, for the model to answer.",
        )
    last = results[-1] if asked is None else asked
    said = [at for at in range(last + 1, len(roles)) if roles[at] in ("system", "developer")]
    return [*results, *(() if asked is None else (asked,)), *said]


def _message(message: Any, where: str) -> bytes:
    """A message with what is known of its role, in canonical form; other fields are left out."""
    if not isinstance(message, dict):
        raise invalid(where, f"`{where}` must be an object.")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(f"{where}.role", f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}.")
    kept = {"role": role, "content": _content(message, role, where), "name": _text(message, "name", where)}
    if role == "assistant":
        kept["tool_calls"] = _tool_calls(message.get("tool_calls"), where)
    elif role == "tool":
        kept["tool_call_id"] = _text(message, "tool_call_id", where, required=True)
    return canonical(kept)


def _text(fields: Mapping[str, Any], name: str, where: str, *, required: bool = False) -> str | None:
    value = fields.get(name)
    if isinstance(value, str) or (value is None and not required):
        return value
    raise invalid(f"{where}.{name}", f"`{where}.{name}` must be a string.")


def _tool_calls(calls: Any, where: str) -> Any:
    """Calls of another system's tools, as history only."""
    if not calls:
        return None
    if isinstance(calls, list) and all(isinstance(call, dict) and _is_text(call.get("id")) for call in calls):
        return calls
    raise invalid(f"{where}.tool_calls", f"`{where}.tool_calls` must be an array of tool calls.")


def _content(message: Mapping[str, Any], role: str, where: str) -> Any:
    content = message.get("content")
    if isinstance(content, str) or (content is None and role == "assistant"):
        return content
    if not isinstance(content, list):
        raise invalid(f"{where}.content", f"`{where}.content` must be a string or an array of parts.")
    if role == "assistant":  # what a model thought is no part of what it said
        content = [part for part in content if not (isinstance(part, dict) and part.get("type") in _THOUGHTS)]
    if not content:
        return ""
    return [_part(part, role, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _part(part: Any, role: str, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise invalid(where, f"`{where}` must be an object.")
    match part.get("type"):
        case "text" | "input_text" | "output_text":  # the last two are the words of the Responses API
            return {"type": "text", "text": _text(part, "text", where, required=True)}
        case "refusal" if role == "assistant":
            return {"type": "refusal", "refusal": _text(part, "refusal", where, required=True)}
        case "image_url" if role == "user":
            return {"type": "image_url", "image_url": _image(part.get("image_url"), f"{where}.image_url")}
        case _:
            raise invalid(
                f"{where}.type",
                f"`{where}.type` must be text" + (" or image_url." if role == "user" else "."),
                "unsupported_content_part",
            )


def _image(image: Any, where: str) -> dict[str, str]:
    if not isinstance(image, dict):
        raise invalid(where, f"`{where}` must be an object with a `url`.")
    url = image.get("url")
    if not isinstance(url, str) or not url.startswith(_IMAGE_URLS):
        raise invalid(f"{where}.url", f"`{where}.url` must begin with https://, http:// or data:image/.")
    detail = _text(image, "detail", where)
    return {"url": url} if detail is None else {"url": url, "detail": detail}
