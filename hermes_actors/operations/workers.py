"""What the supervisor requests of workers on behalf of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from hermes_actors.operations.operation import Operation, operation
from hermes_actors.operations.plain import Misfit, from_plain
from hermes_actors.operations.results import Connection, Done, RunningTurn, SummaryShown


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKnown:
    """What a session's worker knows of it."""

    state: str  # idle | busy | passivated
    session_id: str | None = None  # None: the session is not in memory
    model: str | None = None  # chosen with /model
    turns: dict[str, int]  # how many are in which state
    summary: SummaryShown | None = None
    mcp: tuple[Connection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConnections:
    """The connections of one worker to MCP servers."""

    connections: tuple[Connection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTurns:
    """What runs in one worker."""

    turns: tuple[RunningTurn, ...]
    queued: int  # turns that wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many there were."""

    count: int


@operation("session")
class InspectSession(Operation[SessionKnown]):
    """How a session is."""

    key: str


@operation("mcp")
class InspectConnections(Operation[WorkerConnections]):
    """The connections to MCP servers."""


@operation("restart_mcp")
class RestartConnections(Operation[Count]):
    """End the connections to one MCP server."""

    server: str


@operation("running")
class InspectTurns(Operation[WorkerTurns]):
    """The turns that run, and how many wait."""


@operation("stop_turn")
class StopRunning(Operation[Count]):
    """Stop the turn that runs in a session; counts turns."""

    key: str


@operation("evict")
class EvictSession(Operation[Done]):
    """Forget what memory has of a session: its next message reads it again from the disk."""

    key: str


WorkerRequest: TypeAlias = (
    InspectSession | InspectConnections | RestartConnections | InspectTurns | StopRunning | EvictSession
)

_REQUESTS: Mapping[str, type[WorkerRequest]] = {one.name: one for one in get_args(WorkerRequest)}


def read(name: str, arguments: Mapping[str, Any]) -> WorkerRequest:
    """The request with this name and these arguments, as they arrived.

    Raises:
        Misfit: there is no such request, or an argument is wrong.
    """
    if name not in _REQUESTS:
        raise Misfit(f"unknown request {name!r}")
    return from_plain(_REQUESTS[name], dict(arguments))
