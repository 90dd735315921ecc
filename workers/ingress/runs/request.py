"""The body of ``POST /v1/runs``: the form of hermes-agent 0.19, as the chat-completions request that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.ingress.http.completion import BARE_MODEL
from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.http.request import CHAT_FIELDS, MESSAGES, ChatRequest, chat_request
from workers.ingress.http.shapes import TEXT, record

_OF_RUNS = frozenset({"input", "instructions", "conversation_history", "session_id", "messages", "stream"})
RUN_BODY = record(
    ["input"],
    input={"anyOf": [TEXT, MESSAGES]},
    instructions={"type": ["string", "null"]},
    conversation_history={"anyOf": [{"type": "null"}, {"type": "array"}]},
    session_id={"type": ["string", "null"]},
    **CHAT_FIELDS,
)


def parse_run(body: Mapping[str, Any]) -> ChatRequest:
    """Check a body.

    Args:
        body: ``input`` is a text, or messages as in chat completions; ``instructions`` a system message before it, and
            ``conversation_history`` the messages between. Other fields are those of a chat-completions request.

    Raises:
        ApiError: 400, with the field it is about.
    """
    if body.get("model") == BARE_MODEL:
        raise invalid("model", f"{BARE_MODEL} keeps nothing, so it has no runs: ask it in /v1/chat/completions.")
    if body.get("previous_response_id") is not None:
        raise invalid("previous_response_id", "A run continues a session: send `session_id`.", "unsupported_parameter")
    request = {name: value for name, value in body.items() if name not in _OF_RUNS}
    request["messages"] = [*_instructions(body), *_messages(body, "conversation_history"), *_input(body)]
    try:
        return chat_request(request)
    except ApiError as error:
        if error.param is not None and error.param.startswith("messages"):  # as the request would name it
            error.param = "input"
        raise


def _instructions(body: Mapping[str, Any]) -> list[dict[str, str]]:
    text = body.get("instructions")
    if text is None:
        return []
    if not isinstance(text, str):
        raise invalid("instructions", "`instructions` must be a string.")
    return [{"role": "system", "content": text}]


def _input(body: Mapping[str, Any]) -> list[Any]:
    given = body.get("input")
    if not given:
        raise invalid("input", "`input` must be a text, or a list of messages.", "missing_required_parameter")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return _messages(body, "input")


def _messages(body: Mapping[str, Any], name: str) -> list[Any]:
    given = body.get(name)
    if given is None:
        return []
    if not isinstance(given, list):
        raise invalid(name, f"`{name}` must be a list of messages.")
    return given
