"""The body of a request for a response, checked, as the turn that it asks for and the fields that its answer repeats.

A field that is not known here is refused, and so is one whose meaning could not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workers.ingress.http.client_tools import client_tools
from workers.ingress.http.completion import BARE_MODEL
from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.http.names import is_session_id
from workers.ingress.http.request import ChatRequest, new_part
from workers.ingress.http.shapes import fields_of, record
from workers.ingress.responses.echo import echoed
from workers.ingress.responses.input import InputMessages, check_results, input_messages
from workers.ingress.responses.previous import NOTHING, Previous

MAX_METADATA = 16  # pairs; these and the next bounds are the specification's
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_USER_CHARS = 512

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_INCLUDED = (  # what else an answer may have; none of it is ever there, or it is there anyway
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A request for a response, of the right shape."""

    chat: ChatRequest  # the turn that it asks for
    conversation: str | None  # the session that it names in its body
    echoed: dict[str, Any]  # the fields of a response object that say what was asked
    stored: bool  # its caller may ask for it later
    background: bool  # its caller does not wait for it
    messages: InputMessages

    def check_results(self) -> None:
        """See to it that the calls are in the input whose results are new; in a session they may be there alone.

        Raises:
            ApiError: 400, with the item it is about.
        """
        check_results(self.messages, self.chat.new)


def parse_response(
    body: Mapping[str, Any],
    known: Mapping[str, Mapping[str, Any]],
    previous: Previous = NOTHING,
    *,
    keeps: bool = False,
) -> ResponseRequest:
    """Check a body.

    Args:
        body: the JSON object.
        known: the items that its references name, by id.
        previous: the conversation that it goes on with.
        keeps: whether this gateway keeps responses.

    Raises:
        ApiError: 400, with the field it is about.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        _check(name, value)
    bare = given.get("model") == BARE_MODEL
    if bare and "previous_response_id" in given:
        raise invalid("previous_response_id", f"{BARE_MODEL} keeps nothing: send the whole conversation in `input`.")
    stored, background = keeps and not bare and given.get("store", True), given.get("background", False)
    if background and bare:
        raise invalid("background", f"{BARE_MODEL} keeps nothing, so wait for its response.")
    if background and not stored:
        what = (
            "A response in the background must be stored, here (api_server.response_days) and in the request (store)."
        )
        raise invalid("background", f"{what} Leave `background` out, or store it.")
    conversation = _conversation(given.get("conversation"))
    if conversation is not None and given.get("previous_response_id") is not None:
        raise invalid("previous_response_id", "Send `conversation` or `previous_response_id`, not both.")
    messages = input_messages(given.get("input"), known, previous.history)
    chat = ChatRequest(
        messages=messages.rows,
        new=_new(messages, previous, whole=conversation is not None),
        parameters=_parameters(given),
        user=given.get("user") or given.get("safety_identifier") or "",
        stream=given.get("stream", False),
        include_usage=True,
        bare=given.get("model") == BARE_MODEL,
    )
    return ResponseRequest(
        chat=chat,
        conversation=conversation or previous.session_id,
        echoed=echoed(given, stored=stored, background=background),
        stored=stored,
        background=background,
        messages=messages,
    )


def _kept(given: Mapping[str, Any], *, keeps: bool) -> tuple[bool, bool]:
    """Whether the caller may ask for the response later, and whether they wait for it now."""
    stored, background = keeps and given.get("store", True), given.get("background", False)
    if background and not keeps:
        raise invalid("background", "This gateway keeps no responses (api_server.response_days), so wait for this one.")
    if background and not stored:
        raise invalid("background", "A response in the background must be stored: leave `store` out.")
    return stored, background


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the model, named as in chat completions."""
    parameters = {ours: given[theirs] for theirs, ours in _SAMPLING.items() if theirs in given}
    parameters |= _text_parameters(given.get("text", {}))
    effort = given.get("reasoning", {}).get("effort")
    if effort is not None:
        parameters["reasoning_effort"] = effort
    return parameters | _tools(given)


def _new(messages: InputMessages, previous: Previous, *, whole: bool) -> list[int]:
    """Which messages are new: behind an earlier response all, of a named conversation all behind the last answer."""
    try:
        new = new_part(messages.roles)
    except ApiError:
        raise invalid("input", "`input` must end with a message of the user, or with results of calls.") from None
    if previous is not NOTHING:
        return list(range(len(previous.history), len(messages.roles)))
    if not whole:
        return new
    begins = max((at + 1 for at, role in enumerate(messages.roles) if role == "assistant"), default=0)
    return list(range(begins, len(messages.roles)))


# -- fields -------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_USER_CHARS


def _is_metadata(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_METADATA
        and all(
            len(key) <= MAX_METADATA_KEY_CHARS and isinstance(text, str) and len(text) <= MAX_METADATA_VALUE_CHARS
            for key, text in value.items()
        )
    )


_ANY = (lambda _value: True, "")  # checked where it is read
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a string"),
    "input": _ANY,
    "instructions": (_is_text, "a string"),
    "conversation": _ANY,
    "tools": _ANY,
    "tool_choice": _ANY,
    "parallel_tool_calls": (_is_flag, "true or false"),
    "text": (_is_object, "an object"),
    "reasoning": (
        lambda value: (
            isinstance(value, dict)
            and all(value.get(name) is None or _is_text(value[name]) for name in ("effort", "summary"))
        ),
        "an object whose `effort` and `summary` are strings",
    ),
    "temperature": (_is_number, "a number"),
    "top_p": (_is_number, "a number"),
    "presence_penalty": (_is_number, "a number"),
    "frequency_penalty": (_is_number, "a number"),
    "max_output_tokens": (_is_count, "a positive integer"),
    "metadata": (
        _is_metadata,
        f"an object of {MAX_METADATA} strings ({MAX_METADATA_VALUE_CHARS} characters, keys {MAX_METADATA_KEY_CHARS})",
    ),
    "user": (_is_id, f"a string of at most {MAX_USER_CHARS} characters"),
    "safety_identifier": (_is_id, f"a string of at most {MAX_USER_CHARS} characters"),
    "prompt_cache_key": (_is_text, "a string"),
    "prompt_cache_retention": (_is_text, "a string"),
    "stream": (_is_flag, "true or false"),
    "stream_options": (_is_object, "an object"),
    "store": (_is_flag, "true or false"),
    "truncation": (lambda value: value in ("auto", "disabled"), "auto or disabled"),
    "service_tier": (
        lambda value: value in ("auto", "default", "flex", "priority"),
        "auto, default, flex or priority",
    ),
    "include": (
        lambda value: isinstance(value, list) and all(name in _INCLUDED for name in value),
        f"an array of {', '.join(_INCLUDED)}",
    ),
    "top_logprobs": (lambda value: value == 0 and not isinstance(value, bool), "0: no probabilities are given"),
    "background": (_is_flag, "true or false"),
    "previous_response_id": (_is_text, "a string"),
}
RESPONSE_BODY = record(["input"], **fields_of(_FIELDS))
_UNSUPPORTED = {
    "prompt": "Send the prompt's text in `instructions`.",
    "max_tool_calls": "The gateway's `agent.max_turns` bounds the calls of the agent's own tools.",
    "context_management": "The gateway's `agent.compaction` sees to it.",
}
_SAMPLING: Mapping[str, str] = {  # fields that go to the model, and their names in chat completions
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_output_tokens": "max_tokens",
    "instructions": "instructions",
}


def _check(name: str, value: Any) -> None:
    if name in _UNSUPPORTED:
        raise invalid(name, f"`{name}` is not supported. {_UNSUPPORTED[name]}", "unsupported_parameter")
    if name not in _FIELDS:
        raise invalid(name[:MAX_USER_CHARS], "This field is not known here: leave it out.", "unknown_parameter")
    fits, what = _FIELDS[name]
    if not fits(value):
        raise invalid(name, f"`{name}` must be {what}.")


def _conversation(value: Any) -> str | None:
    name = value.get("id") if isinstance(value, dict) else value
    if name is None and value is None:
        return None
    if isinstance(name, str) and is_session_id(name):
        return name
    raise invalid("conversation", "`conversation` must be the name of a session, or an object with it as `id`.")


# -- text ---------------------------------------------------------------------------------------------------------


def _text_parameters(text: Mapping[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    verbosity, form = text.get("verbosity"), text.get("format")
    if verbosity is not None:
        if verbosity not in ("low", "medium", "high"):
            raise invalid("text.verbosity", "`text.verbosity` must be low, medium or high.")
        parameters["verbosity"] = verbosity
    if form is None:
        return parameters
    match form.get("type") if isinstance(form, dict) else None:
        case "text":
            pass
        case "json_schema":
            schema = _schema(form)
            json_schema = {"type": "json_schema", "json_schema": schema}
            # A client that has no schema asks for an object so.
            parameters["response_format"] = json_schema if "schema" in schema else {"type": "json_object"}
        case "json_object":
            parameters["response_format"] = {"type": "json_object"}
        case _:
            raise invalid("text.format.type", "`text.format.type` must be text, json_object or json_schema.")
    return parameters


def _schema(form: Mapping[str, Any]) -> dict[str, Any]:
    name = form.get("name") or "response"
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise invalid(
            "text.format.name", "`text.format.name` must have 1 to 64 letters, digits, underscores and hyphens."
        )
    kept = {"name": name}
    for more, fits, what in (
        ("schema", _is_object, "a JSON Schema"),
        ("strict", _is_flag, "true or false"),
        ("description", _is_text, "a string"),
    ):
        if form.get(more) is not None:
            if not fits(form[more]):
                raise invalid(f"text.format.{more}", f"`text.format.{more}` must be {what}.")
            kept[more] = form[more]
    return kept


# -- tools --------------------------------------------------------------------------------------------------------


def _tools(given: Mapping[str, Any]) -> dict[str, Any]:
    """The tools in the form of chat completions, which nests what is flat here."""
    tools = given.get("tools")
    request = {
        "tools": [_nested(tool) for tool in tools] if isinstance(tools, list) else tools,
        "tool_choice": _choice(given.get("tool_choice")),
        "parallel_tool_calls": given.get("parallel_tool_calls"),
    }
    try:
        parameters = client_tools(request)
    except ApiError as error:
        raise invalid(_flat(error.param or "tools"), _flat(error.message), error.code) from None
    if isinstance(choice := given.get("tool_choice"), dict) and choice.get("mode") == "none":
        parameters["tool_choice"] = "none"
    return parameters


def _nested(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "allowed_tools":
        return _nested(choice)
    mode, tools = choice.get("mode") or "auto", choice.get("tools")
    if mode == "none":  # which chat completions have not; the tools are checked all the same
        mode = "auto"
    named = [_nested(tool) for tool in tools] if isinstance(tools, list) else tools
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _flat(path: str) -> str:
    return path.replace("tool_choice.allowed_tools.", "tool_choice.").replace(".function", "")
