"""The tools a server offers, as a model gets them, and the check of what a model sends back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson
from jsonschema.protocols import Validator

from hermes_actors.config.model import ToolFilter
from workers.kept_json import kept_json
from workers.models.offer import OfferedTool
from workers.tools.arguments import fitted
from workers.tools.dialect import plain
from workers.tools.introduction import UNKNOWN, Introduction, Prompt
from workers.tools.schema import ANYTHING, validator

MAX_NAME_CHARS = 64  # of a function's name, and only [a-zA-Z0-9_-]: OpenAI's API reference, function calling
MAX_SCHEMAS = 1024  # that are kept in the form in which models get them

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_TEXT = {"type": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """A tool as its server lists it."""

    name: str
    description: str | None
    input_schema: dict[str, Any]


LIST_RESOURCES = ListedTool(
    name="list_resources",
    description="List the resources of this server, by their URIs. Give the cursor of an answer to go on after it.",
    input_schema={"type": "object", "properties": {"cursor": _TEXT}},
)
READ_RESOURCE = ListedTool(
    name="read_resource",
    description="Read a resource of this server, such as one that a link in the result of a tool names.",
    input_schema={"type": "object", "properties": {"uri": _TEXT}, "required": ["uri"]},
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tool that its server lists and no model gets."""

    name: str  # the server's own, or where it stands in the listing if it has none
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a server lists."""

    tools: tuple[ListedTool, ...]
    left_out: tuple[LeftOut, ...] = ()  # what could not be read, and what no call can use
    ttl_s: float | None = None  # how long it is fresh, where the server says so
    cut: str | None = None  # why there may be more
    introduction: Introduction = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueTool:
    """A tool on offer."""

    name: str  # as the model knows it
    listed: ListedTool
    is_ours: bool = False  # it lists or reads the resources of the server, which has no such tool itself


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """What one server offers."""

    digest: str  # equal digests: equal offers
    tools: Mapping[str, CatalogueTool]  # by the name the model knows
    offered: tuple[OfferedTool, ...]  # as the model gets them, in order
    left_out: tuple[LeftOut, ...] = ()  # of the chosen tools
    introduction: Introduction = UNKNOWN
    prompts: Mapping[str, Prompt] = field(default_factory=dict)  # by the command that asks for one, without its slash
    warnings: tuple[str, ...] = ()  # what of the configuration has no effect, for its operator
    _validators: dict[str, Validator] = field(default_factory=dict)

    def fitted(self, tool: CatalogueTool, arguments: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """A call's arguments as the tool's schema wants them, and what is wrong with them still, for the model.

        A schema that is malformed, or refers to what is not inside it, checks nothing, and what would take long is not
        checked: its server still can.
        """
        if tool.name not in self._validators:
            self._validators[tool.name] = _validator(tool.listed.input_schema)
        return fitted(self._validators[tool.name], arguments)


def catalogue(
    server: str,
    listed: Sequence[ListedTool],
    chosen: ToolFilter,
    unread: Sequence[LeftOut] = (),
    *,
    introduction: Introduction = UNKNOWN,
    resources: bool = False,
) -> Catalogue:
    """The catalogue of a server that lists these tools.

    A tool that cannot be offered to a model is left out: providers refuse the whole request for one such definition.

    Args:
        server: its name.
        listed: its tools.
        chosen: which of them the configuration offers.
        unread: tools that the listing itself left out.
        introduction: what the server says of itself.
        resources: offer tools for the server's resources, where it has some.
    """
    tools: dict[str, CatalogueTool] = {}
    offered: list[OfferedTool] = []
    names: set[str] = set()
    left_out = [each for each in unread if is_chosen(each.name, chosen)]
    ours = (LIST_RESOURCES, READ_RESOURCE) if resources and introduction.has_resources else ()
    for tool in (*listed, *ours):
        if tool.name in names or not (tool in ours or is_chosen(tool.name, chosen)):
            continue
        name = offered_name(server, tool.name, taken=tools)
        try:
            offered.append(_offered(name, server, tool, chosen.max_description))
        except (TypeError, ValueError) as error:  # lone surrogates, integers of more than 64 bits; no object
            left_out.append(LeftOut(tool.name, str(error)))
            continue
        names.add(tool.name)
        tools[name] = CatalogueTool(name=name, listed=tool, is_ours=tool in ours)
    words = [*names_of(tools), *(f"{each.name}: {each.why}" for each in left_out), repr(introduction)]
    identity = (*(tool.definition for tool in offered), *map(_bytes, words))
    return Catalogue(
        digest=blake2b(b"\0".join(identity), digest_size=16).hexdigest(),
        tools=tools,
        offered=tuple(offered),
        left_out=tuple(left_out),
        introduction=introduction,
        prompts={offered_name(server, prompt.name): prompt for prompt in introduction.prompts},
        warnings=tuple(_without_effect([*(tool.name for tool in listed), *(each.name for each in unread)], chosen)),
    )


def _without_effect(names: Collection[str], chosen: ToolFilter) -> Iterator[str]:
    """The patterns of the configuration that no tool fits."""
    for key, patterns in (("include", chosen.include), ("exclude", chosen.exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                near = get_close_matches(pattern.strip("*?"), names, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"tools.{key}: no tool is named {pattern!r}{hint}"


def _validator(schema: dict[str, Any]) -> Validator:
    """The check of a tool's schema."""
    try:
        return validator(schema)
    except Exception:  # noqa: BLE001  # there is no end to what jsonschema raises for what is no schema
        return ANYTHING


def names_of(tools: Mapping[str, CatalogueTool]) -> Iterable[str]:
    """The servers' own names of tools, in order."""
    return (tool.listed.name for tool in tools.values())


def is_chosen(name: str, chosen: ToolFilter) -> bool:
    """Whether the configuration offers a tool: ``include`` decides alone where there is one, else ``exclude`` does."""
    if chosen.include:
        return any(fnmatchcase(name, pattern) for pattern in chosen.include)
    return not any(fnmatchcase(name, pattern) for pattern in chosen.exclude)


def offered_name(server: str, tool: str, *, taken: Collection[str] = ()) -> str:
    """``mcp__<server>__<tool>`` as a name a provider accepts, different for each pair of server and tool.

    A name that had to be changed, or that could be read as another pair's, ends with a hash of the pair.
    """
    plain = f"mcp__{server}__{tool}"
    name = _NOT_IN_A_NAME.sub("_", plain)
    ambiguous = "__" in server or server.endswith("_")
    if name == plain and len(name) <= MAX_NAME_CHARS and not ambiguous and name not in taken:
        return name
    suffix = "_" + blake2b(_bytes(f"{server}\0{tool}"), digest_size=6).hexdigest()
    return name[: MAX_NAME_CHARS - len(suffix)] + suffix


def _offered(name: str, server: str, tool: ListedTool, max_description: int | None) -> OfferedTool:
    """A tool in chat-completions form.

    Raises:
        TypeError, ValueError: it cannot be written as JSON, or its schema is not that of an object, as the arguments of
            a call are.
    """
    description = shortened(tool.description or "", max_description)
    parameters = orjson.Fragment(_parameters(orjson.dumps(tool.input_schema)))
    function = {"name": name, "description": description, "parameters": parameters}
    return OfferedTool(
        name=name,
        server=server,
        tool=tool.name,
        definition=kept_json({"type": "function", "function": function}),
        description_chars=len(description),
    )


@lru_cache(MAX_SCHEMAS)
def _parameters(schema: bytes) -> bytes:
    """A schema as models get it; servers list the same ones over each connection.

    Raises:
        ValueError: see :func:`workers.tools.dialect.plain`.
    """
    return orjson.dumps(plain(orjson.loads(schema)))


def shortened(text: str, limit: int | None) -> str:
    """The text, at most ``limit`` characters of it, which end with an ellipsis where something is missing."""
    return text if limit is None or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
