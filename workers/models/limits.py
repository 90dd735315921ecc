"""What a model was found to refuse, learned from its provider's words and applied to what it is sent later: pure.

A refusal that says what was too much is a lesson: the request is made once more without that, and so are those that
come after it. Nothing is learned twice, so a request is repeated a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from workers.models.cause import Cause
from workers.models.failure import Words, names
from workers.models.offer import Offer, OfferedTool, offer
from workers.models.provider import ModelRequest

MAX_LESSONS = 8  # of one request, so that one that is refused for ever new reasons comes to an end
DESCRIPTION_CHARS = 1024  # the limit of OpenAI and Azure, for a provider that does not say its own
NUMBER_OF_TOOLS = 128  # the same
MAX_TOLD = 5  # tools that are named one by one; more are counted
_CUT_MARK = "…"
_ANSWER_TOKENS = ("max_tokens", "max_completion_tokens")

_PLACE = re.compile(r"\btools\[(\d+)\](?!\.function_declarations)|\btools\.(\d+)\b|function_declarations\[(\d+)\]")
_NUMBER = re.compile(r"(?<![\w.])\d{1,7}(?![\w])")
_BOUND = re.compile(
    r"(?:maximum length|at most|max(?:imum)?|limit|<=|up to|longer than)[^\d\n]{0,16}(\d{2,6})", re.IGNORECASE
)
_DESCRIPTION = re.compile(r"description", re.IGNORECASE)
_TOO_MANY = re.compile(
    r"too many (tools|functions)|array too long|number of items|\d+ (tools|functions)|^tools:? .*at most", re.IGNORECASE
)
_NO_TOOLS = re.compile(
    r"auto.{0,3} tool choice requires|requires? --jinja|support(s|ed|ing)? (tool|function)"
    r"|(tool|function)[\w -]{0,12} (is|are) not (supported|enabled|allowed)|support parameters?: \[",
    re.IGNORECASE,
)
_LONGEST_ANSWER = re.compile(
    r"supports at most (\d+) completion tokens|range of max_tokens (?:is|should be) \[\d+, ?(\d+)\]"
    r"|max_tokens: \d+ > (\d+)|max(?:_completion)?_tokens\D{0,40}(?:must be|<=|at most)[^\d\n]{0,40}(\d+)",
    re.IGNORECASE,
)
_ANSWER_BESIDE = re.compile(r"\(\d+ > (\d+) - (\d+)\)")  # vLLM: what is left of the window beside this request
_STALE = re.compile(  # Gemini, Anthropic, OpenAI, and OpenRouter where another provider answers than before
    r"(invalid|corrupt\w*|malformed|expired|stale).{0,40}(signature|encrypted[ _]content)"
    r"|(signature|encrypted[ _]content)\b.{0,60}(invalid|not valid|corrupt|malformed|mismatch|expired|could not)",
    re.IGNORECASE,
)
# A field of Limits, the words of a refusal, what it means.
_SHAPES: Sequence[tuple[str, re.Pattern[str], str]] = (
    (
        "takes_bare_calls",
        re.compile(r"missing a?\s?.?thought_signature|thought_signature.{0,40}(missing|required)", re.IGNORECASE),
        "it wants its own signature with each call of a tool: calls of others are sent as text",
    ),
    (
        "takes_long_ids",
        re.compile(
            r"tool call id .{0,80}length|tool_?call(s\[\d+\]\.|_)?id.{0,60}(length|too long|pattern)", re.IGNORECASE
        ),
        "it takes short ids of calls only",
    ),
    (
        "takes_repeated_roles",
        re.compile(r"roles? must alternate|must alternate between|alternat\w+ .{0,20}roles", re.IGNORECASE),
        "it takes messages of the user and the assistant in turns only",
    ),
    (
        "takes_attached",
        re.compile(
            r"reasoning(_content|_details)?.{0,40}(not (supported|permitted|allowed)|unsupported|forbidden|unexpected)"
            r"|(unsupported|unexpected|extra|unknown).{0,40}reasoning",
            re.IGNORECASE,
        ),
        "it refuses the reasoning that it sent itself",
    ),
    (
        "takes_system",
        re.compile(
            r"(system|developer) (role|message|prompt|instruction)s? (is |are )?not (supported|enabled|allowed)"
            r"|not support (the )?.?(system|developer)\b|(unknown|unsupported|invalid|unexpected) role:? .?system",
            re.IGNORECASE,
        ),
        "it takes no system message: its text is sent as the first one of the user",
    ),
    (
        "takes_names",
        re.compile(
            r"(\b(field|property|key|parameter)\W{1,3}|\b(user|assistant)\.)name\b.{0,40}"
            r"(not (supported|permitted|allowed)|unsupported|unexpected|unknown|extra)"
            r"|(unsupported|unexpected|unknown|extra) (field|property|key)s?\W{0,4}name\b",
            re.IGNORECASE,
        ),
        "it takes no names of speakers: they are sent in the text",
    ),
    (
        "takes_null_content",
        re.compile(
            r"\bcontent\b.{0,60}\b(null|none)\b|\bcontent\b\W.{0,24}(must|should) be (a )?(valid )?string|nonetype"
            r"|\bcontent\b.{0,40}(must|can|may)( ?not| only)? be (non-)?empty",
            re.IGNORECASE,
        ),
        "it takes no null as the content of a message: calls without a text get some words",
    ),
    (
        "takes_stream_options",
        re.compile(r"\bstream_options\b", re.IGNORECASE),
        "it takes no stream_options: it is not asked for its usage",
    ),
    (
        "takes_max_tokens",
        re.compile(r"max_tokens\b.{0,80}\buse\b.{0,4}max_completion_tokens", re.IGNORECASE),
        "it takes no max_tokens: they are sent as max_completion_tokens",
    ),
)
_PICTURE = b'"image_url"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What one model takes, as far as the configuration or a refusal says so."""

    vision: bool | None = None  # False: no pictures
    tools: int | None = None  # how many at most; 0: none
    refused: frozenset[str] = frozenset()  # tools that it does not take, by their names on offer
    description_chars: int | None = None  # of a tool, at most
    plain_schemas: bool = False  # it takes types, properties, items and enumerations only
    answer_tokens: int | None = None  # for max_tokens, at most
    takes_attached: bool = True  # this and what follows as in :class:`workers.models.target.ModelTarget`
    takes_bare_calls: bool = True
    takes_long_ids: bool = True
    takes_repeated_roles: bool = True
    takes_system: bool = True
    takes_names: bool = True
    takes_null_content: bool = True
    takes_stream_options: bool = True
    takes_max_tokens: bool = True  # False: it wants max_completion_tokens instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a refusal taught."""

    limits: ModelLimits  # from now on
    said: str  # what it is, for the log
    lasting: bool = True  # False: it is about this request, and says nothing of others


def limits_learned(limits: ModelLimits, cause: Cause, words: Words, request: ModelRequest) -> Lesson | None:
    """What a refusal teaches of a model, or None: nothing that was not known.

    Args:
        limits: what was known, and kept to in the request that was refused.
        cause: of the refusal.
        words: of the provider, as they came.
        request: as it was sent, within these limits.
    """
    if cause is Cause.PICTURE and limits.vision is not False and _has_picture(request):
        return Lesson(limits=replace(limits, vision=False), said="it takes no pictures: a line says so in their place")
    if cause is Cause.TOOLS and request.tools.tools:
        return _of_tools(limits, words, request.tools)
    if cause in (Cause.REQUEST, Cause.CONTEXT, Cause.DOWN, Cause.PICTURE):  # "content must be a string": it may be null
        return _of_answer(limits, words.raw, request.parameters) or _of_shape(limits, words.raw)
    return None


def within(limits: ModelLimits, request: ModelRequest) -> ModelRequest:
    """The request with the tools and parameters that the model takes."""
    tools = offered(limits, request.tools)
    parameters = request.parameters
    if not limits.takes_max_tokens and "max_tokens" in parameters:
        others = {name: value for name, value in parameters.items() if name != "max_tokens"}
        parameters = {"max_completion_tokens": parameters["max_tokens"], **others}
    if limits.answer_tokens is not None:
        parameters = {name: _bounded(name, value, limits.answer_tokens) for name, value in parameters.items()}
    if "tool_choice" in parameters or "parallel_tool_calls" in parameters:
        parameters = _choosing(parameters, tools)
    if tools is request.tools and parameters is request.parameters:
        return request
    return replace(request, tools=tools, parameters=parameters)


def _choosing(parameters: Mapping[str, Any], tools: Offer) -> Mapping[str, Any]:
    """The parameters without a choice among tools that are not on offer, which every provider refuses."""
    named = parameters.get("tool_choice")
    gone = {"tool_choice", "parallel_tool_calls"} if not tools.tools else set()
    if isinstance(named, dict) and all(tool.name != named["function"]["name"] for tool in tools.tools):
        gone.add("tool_choice")
    return {name: value for name, value in parameters.items() if name not in gone} if gone else parameters


def offered(limits: ModelLimits, tools: Offer) -> Offer:
    """The tools that the model takes, in the form that it takes: the first ones, where it does not take them all."""
    bounds = (limits.tools, limits.refused, limits.description_chars, limits.plain_schemas)
    if bounds == (None, frozenset(), None, False) or not tools.tools:
        return tools
    return _offered(limits, tools)


def tools_meant(words: Words, tools: Offer) -> list[OfferedTool]:
    """The tools that a refusal is about, by their places in the request or by name."""
    places = [int(next(filter(None, found.groups()))) for found in _PLACE.finditer(f"{words.param} {words.raw}")]
    meant = [tools.tools[place] for place in dict.fromkeys(places) if place < len(tools.tools)]
    return meant or [tool for tool in tools.tools if tool.name in words.raw and names(words.raw, tool.name)]


def advice_about(words: Words, tools: Offer) -> str:
    """What an operator does about tools that a provider refuses; empty where nothing says which."""
    if meant := tools_meant(words, tools):
        which = "; ".join(
            f"`tools` without {tool.name}"
            if tool.of_client
            else f"mcp_servers.{tool.server}.tools.exclude: [{tool.tool}]"
            for tool in meant[:MAX_TOLD]
        )
        return f"the provider refuses a tool that it is offered: leave it out with {which}"
    if _TOO_MANY.search(words.raw) or words.param in ("tools", "functions"):
        places = ("`tools`" if tool.of_client else f"mcp_servers.{tool.server}.tools.include" for tool in tools.tools)
        where = ", ".join(dict.fromkeys(places))
        return f"{len(tools.tools)} tools are more than the provider takes: choose which to offer with {where}"
    return ""


def told(tools: Sequence[OfferedTool]) -> str:
    """Tools by server and name, for the log: a few of them, and how many more."""
    few = ", ".join(f"{tool.server or 'a client'}/{tool.tool}" for tool in tools[:MAX_TOLD])
    return few if len(tools) <= MAX_TOLD else f"{few} and {len(tools) - MAX_TOLD} more"


# -- lessons ------------------------------------------------------------------------------------------------------


def _of_tools(limits: ModelLimits, words: Words, tools: Offer) -> Lesson:
    """Some lesson there always is: without tools, if need be."""
    for lesson in (_of_description, _of_number, _of_single, _of_schemas):
        if (found := lesson(limits, words, tools)) is not None:
            return found
    return Lesson(
        limits=replace(limits, tools=0),
        said="it takes no tools: it is asked without them; if it should take some, see the server's flags",
    )


def _of_description(limits: ModelLimits, words: Words, tools: Offer) -> Lesson | None:
    if not _DESCRIPTION.search(f"{words.param} {words.raw}"):
        return None
    longest = max(tool.description_chars for tool in tools.tools)
    found = _BOUND.search(words.raw)
    bound = int(found[1]) if found else DESCRIPTION_CHARS
    if bound >= longest or (limits.description_chars is not None and bound >= limits.description_chars):
        return None
    cut = [tool for tool in tools.tools if tool.description_chars > bound]
    return Lesson(
        limits=replace(limits, description_chars=bound),
        said=f"it takes {bound} characters of a tool's description: those of {told(cut)} are cut",
    )


def _of_number(limits: ModelLimits, words: Words, tools: Offer) -> Lesson | None:
    if words.param not in ("tools", "functions") and not _TOO_MANY.search(words.raw):
        return None
    smaller = [int(number) for number in _NUMBER.findall(words.raw) if 0 < int(number) < len(tools.tools)]
    if not smaller and len(tools.tools) <= NUMBER_OF_TOOLS:
        return None
    bound = max(smaller, default=NUMBER_OF_TOOLS)
    return Lesson(
        limits=replace(limits, tools=bound),
        said=f"it takes {bound} tools: {told(_beyond(bound, tools.tools))} are left out; "
        "mcp_servers.<server>.tools.include chooses others",
    )


def _of_single(limits: ModelLimits, words: Words, tools: Offer) -> Lesson | None:
    meant = tools_meant(words, tools)
    if not meant or len(meant) == len(tools.tools) > 1:
        return None
    return Lesson(
        limits=replace(limits, refused=limits.refused | {tool.name for tool in meant}),
        said=f"it refuses {told(meant)}, which is left out; so does mcp_servers.<server>.tools.exclude",
        lasting=not any(tool.of_client for tool in meant),  # another client's may have the same name
    )


def _of_schemas(limits: ModelLimits, words: Words, _: Offer) -> Lesson | None:
    if limits.plain_schemas or _NO_TOOLS.search(words.raw):
        return None
    return Lesson(
        limits=replace(limits, plain_schemas=True),
        said="it refuses the schema of a tool, and does not say which: all are sent in their plainest form",
    )


def _has_picture(request: ModelRequest) -> bool:
    rows = (*request.messages, *(row for turn in request.past for row in turn.rows))
    return any(_PICTURE in row for row in rows)


def _of_answer(limits: ModelLimits, text: str, parameters: Mapping[str, Any]) -> Lesson | None:
    asked = max((value for name in _ANSWER_TOKENS if type(value := parameters.get(name)) is int), default=0)
    if beside := _ANSWER_BESIDE.search(text):
        bound = int(beside[1]) - int(beside[2])
    elif found := _LONGEST_ANSWER.search(text):
        bound = int(next(filter(None, found.groups())))
    else:
        return None
    if not 0 < bound < asked:
        return None
    return Lesson(limits=replace(limits, answer_tokens=bound), said=f"its answers have {bound} tokens at most")


def _of_shape(limits: ModelLimits, text: str) -> Lesson | None:
    if limits.takes_attached and _STALE.search(text):
        said = "it does not know its own signatures any more: this conversation is sent without them"
        return Lesson(limits=replace(limits, takes_attached=False), said=said, lasting=False)
    for name, pattern, said in _SHAPES:
        if getattr(limits, name) and pattern.search(text):
            known: dict[str, Any] = {name: False}
            return Lesson(limits=replace(limits, **known), said=said)
    return None


# -- what fits ----------------------------------------------------------------------------------------------------

_PLAIN_KEYS = frozenset({"type", "description", "enum", "items", "properties", "required"})
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_MAX_DEPTH = 8  # of a schema; what lies deeper is any value


@lru_cache(maxsize=64)
def _offered(limits: ModelLimits, tools: Offer) -> Offer:
    taken = [tool for tool in tools.tools if tool.name not in limits.refused]
    left_out = () if limits.tools is None else _beyond(limits.tools, taken)
    return offer(_fitted(limits, tool) for tool in taken if tool not in left_out)


def _beyond(bound: int, tools: Sequence[OfferedTool]) -> Sequence[OfferedTool]:
    """The tools that are too many: the last ones of the agent, before any that the client asks for itself."""
    return sorted(tools, key=lambda tool: not tool.of_client)[bound:]


def _fitted(limits: ModelLimits, tool: OfferedTool) -> OfferedTool:
    too_long = limits.description_chars is not None and tool.description_chars > limits.description_chars
    if not too_long and not limits.plain_schemas:
        return tool
    definition = orjson.loads(tool.definition)
    function = definition["function"]
    if too_long:
        assert limits.description_chars is not None
        function["description"] = function["description"][: limits.description_chars - len(_CUT_MARK)] + _CUT_MARK
    if limits.plain_schemas and "parameters" in function:
        function["parameters"] = {"type": "object", "properties": {}, **plain_schema(function["parameters"])}
    chars = len(function.get("description", ""))
    return replace(tool, definition=orjson.dumps(definition), description_chars=chars)


def plain_schema(schema: Any, depth: int = _MAX_DEPTH) -> dict[str, Any]:
    """Of a schema only types, descriptions, properties, items and texts to choose from, so that it takes more."""
    if not isinstance(schema, dict) or depth == 0:
        return {}
    plain = {name: value for name, value in schema.items() if name in _PLAIN_KEYS}
    types = plain.pop("type", None)
    for kind in types if isinstance(types, list) else [types]:
        if isinstance(kind, str) and kind in _TYPES:
            plain["type"] = kind
            break
    if not isinstance(plain.get("description", ""), str):
        del plain["description"]
    enum = plain.pop("enum", None)
    if isinstance(enum, list) and enum and all(isinstance(value, str) for value in enum):
        plain["enum"] = enum
    if "items" in plain:
        plain["items"] = plain_schema(plain["items"], depth - 1)
    properties, required = plain.pop("properties", None), plain.pop("required", None)
    if isinstance(properties, dict):
        plain["properties"] = {name: plain_schema(value, depth - 1) for name, value in properties.items()}
        if isinstance(required, list):
            plain["required"] = [name for name in required if isinstance(name, str) and name in properties]
    return plain


def _bounded(name: str, value: Any, bound: int) -> Any:
    return min(value, bound) if name in _ANSWER_TOKENS and type(value) is int else value
