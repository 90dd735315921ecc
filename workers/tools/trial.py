"""One start of one server, apart from any session and any gateway: what it does, and what a model would get of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hermes_actors.config.model import McpServer, ToolFilter
from workers.models.gauge import TOKENS_PER_BYTE
from workers.tools.catalogue import Catalogue, LeftOut, ListedTool, Listing, catalogue, is_chosen
from workers.tools.commons import ServerCommons, WorkerCommons
from workers.tools.connection import ToolConnection
from workers.tools.introduction import MAX_INSTRUCTIONS_CHARS
from workers.tools.owner import Unreachable
from workers.tools.target import ServerTarget, target

HIDDEN = "hidden by tools.include or tools.exclude"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that was tried."""

    what: str
    seen: str
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedTool:
    """A tool that the server lists."""

    name: str | None  # as the model knows it; None where it is left out
    tool: str  # the server's own name
    is_renamed: bool  # the model's name does not end with that
    tokens: int  # of its definition, in each request: an estimate of TOKENS_PER_BYTE
    left_out: str | None  # why no model gets it


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a server did."""

    server: str
    ok: bool
    took_s: float  # from the start until its tools were listed, or it failed
    steps: tuple[Step, ...]
    tools: tuple[TriedTool, ...] = ()
    detail: str = ""  # what the server itself said where it failed, for its operator alone
    warnings: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As what JSON carries."""
        return asdict(self)


async def trial(name: str, entry: McpServer, environment: Mapping[str, str], *, mark: str, home: Path) -> Trial:
    """Start a server once, list what it has, and end it again. Bounded by its ``connect_timeout``, and some seconds.

    Args:
        name: the server's name.
        entry: its configuration.
        environment: the values of the variables that the configuration names.
        mark: what its processes carry as their owner, an :func:`hermes_actors.wire.ownership.owner_mark`.
        home: of the gateway.

    Raises:
        UnsetVariable: the entry names a variable without a value.
    """
    with TemporaryDirectory(prefix="mcp-trial-") as logs:
        at = target(name, entry, environment, logs=Path(logs))
        found = _found(at)
        if not found.ok:
            return Trial(server=name, ok=False, took_s=0.0, steps=(found,))
        listings: list[Listing] = []
        commons = ServerCommons(WorkerCommons(mark, home))
        connection = ToolConnection(at, commons=commons, on_tools=lambda listing, _: listings.append(listing))
        began = time.monotonic()
        try:
            await connection.up()
        except Unreachable as error:
            why = str(error).partition("; see logs/")[0]  # that log is gone with the trial
            why = why.removeprefix(f"MCP server {name!r} cannot be connected: ")
            failed = Step(what="start", seen=why, ok=False)
            took_s, detail = time.monotonic() - began, connection.describe()["detail"] or ""
            return Trial(server=name, ok=False, took_s=took_s, steps=(found, failed), detail=detail)
        else:
            took_s = time.monotonic() - began
            return _told(name, entry, listings[-1], found, took_s)
        finally:
            await connection.close()


def _found(at: ServerTarget) -> Step:
    """Where the server is."""
    if not at.command:
        return Step(what="address", seen=at.entry.url or "")  # as configured: values may be secrets
    command = at.command[0]
    where = str(Path(at.directory, command)) if "/" in command and at.directory else command
    path = shutil.which(where, path=at.environment.get("PATH"))
    if path is None:
        missing = "there is no such program" if "/" in command else "it is not on PATH"
        return Step(what="command", seen=f"{at.entry.command}: {missing}", ok=False)
    return Step(what="command", seen=path)


def _told(name: str, entry: McpServer, listing: Listing, found: Step, took_s: float) -> Trial:
    known = catalogue(
        name,
        listing.tools,
        entry.tools,
        listing.left_out,
        introduction=listing.introduction,
        resources=entry.resources,
    )
    about = listing.introduction
    tools = _tools(name, known, listing.tools, entry.tools)
    steps = [
        found,
        Step(what="start", seen=f"answered in {took_s:.1f} s"),
        Step(what="protocol", seen=f"{about.protocol}{f', {about.version}' if about.version else ''}"),
        Step(what="tools", seen=_tools_seen(tools)),
        Step(what="prompts", seen=", ".join(f"/{word}" for word in known.prompts) or "none"),
        Step(what="resources", seen=_resources_seen(about.has_resources, entry.resources)),
        Step(what="instructions", seen=_instructions_seen(len(about.instructions), entry.instructions)),
    ]
    warnings = (*known.warnings, *((f"the list of tools is not whole: {listing.cut}",) if listing.cut else ()))
    return Trial(server=name, ok=True, took_s=took_s, steps=tuple(steps), tools=tuple(tools), warnings=warnings)


def _tools(server: str, known: Catalogue, listed: Sequence[ListedTool], chosen: ToolFilter) -> list[TriedTool]:
    offered = [
        TriedTool(
            name=tool.name,
            tool=tool.tool,
            is_renamed=tool.name != f"mcp__{server}__{tool.tool}",
            tokens=round(len(tool.definition) * TOKENS_PER_BYTE),
            left_out=None,
        )
        for tool in known.offered
    ]
    out = [*known.left_out, *(LeftOut(tool.name, HIDDEN) for tool in listed if not is_chosen(tool.name, chosen))]
    return offered + [
        TriedTool(name=None, tool=tool.name, is_renamed=False, tokens=0, left_out=tool.why) for tool in out
    ]


def _tools_seen(tools: Sequence[TriedTool]) -> str:
    offered = sum(tool.left_out is None for tool in tools)
    hidden = sum(tool.left_out == HIDDEN for tool in tools)
    parts = [f"{offered} offered, about {sum(tool.tokens for tool in tools)} tokens in each request"]
    parts += [f"{hidden} hidden by the configuration"] if hidden else []
    parts += [f"{len(tools) - offered - hidden} left out"] if len(tools) > offered + hidden else []
    return "; ".join(parts)


def _resources_seen(has: bool, wanted: bool) -> str:
    if not has:
        return "none"
    return "offered as two tools" if wanted else "some may be there; resources: true offers them"


def _instructions_seen(chars: int, wanted: bool) -> str:
    if not chars:
        return "none"
    if not wanted:
        return f"{chars} characters, which no model gets (instructions: false)"
    kept = f", of which models get {MAX_INSTRUCTIONS_CHARS}" if chars > MAX_INSTRUCTIONS_CHARS else ""
    return f"{chars} characters{kept}"
