"""What an operator can request, by the name that travels. Fields say what they mean; times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, get_args

from hermes_actors.operations.operation import Operation, operation
from hermes_actors.operations.plain import Bounds, Misfit, from_plain
from hermes_actors.operations.results import (
    ConfigurationReloaded,
    ConnectionsListed,
    Done,
    Drained,
    DrainPlanned,
    DrainShown,
    ServerRestarted,
    SessionShown,
    SessionsListed,
    Status,
    StrikesCleared,
    Then,
    TurnStopped,
)

LARGEST_PAGE = 1000  # sessions
USUAL_PAGE = 100  # sessions
LONGEST_TIMEOUT_S = 366 * 24 * 3600.0  # as agent.restart_drain_timeout

Name: TypeAlias = Annotated[str, Bounds(1, float("inf"), "a text that is not empty")]
Seconds: TypeAlias = Annotated[float, Bounds(0, LONGEST_TIMEOUT_S, "a number of seconds from {least} to {most:.0f}")]


@operation("status")
class ShowStatus(Operation[Status]):
    """How the supervisor, its workers and their shards are."""


@operation("sessions.list")
class ListAllSessions(Operation[SessionsListed]):
    """A page of all sessions, the one that was active last first."""

    limit: Annotated[int, Bounds(1, LARGEST_PAGE, "a number from {least} to {most}")] = USUAL_PAGE  # sessions
    after: str | None = None  # ``next`` of the page before


@operation("sessions.show")
class ShowSession(Operation[SessionShown]):
    """One session, with what its worker knows of it."""

    session: Name  # its key, or a last part that only one key has


@operation("sessions.suspend")
class SuspendSession(Operation[SessionShown]):
    """Take a session out of service: its next message begins a fresh transcript."""

    session: Name  # its key, or a last part that only one key has


@operation("sessions.resume")
class ResumeSession(Operation[SessionShown]):
    """Give a session the transcript back that a suspension set aside."""

    session: Name  # its key, or a last part that only one key has


@operation("sessions.reset")
class ResetSession(Operation[SessionShown]):
    """Begin a fresh transcript in a session, without marks and strikes."""

    session: Name  # its key, or a last part that only one key has


@operation("sessions.stop")
class StopTurn(Operation[TurnStopped]):
    """Stop the turn that runs in a session."""

    session: Name  # its key, or a last part that only one key has


@operation("ledger.clear")
class ClearStrikes(Operation[StrikesCleared]):
    """Clear the strikes of a session, or of all."""

    session: Name | None = None  # its key; without it: all sessions


@operation("mcp")
class ListConnections(Operation[ConnectionsListed]):
    """Every connection of every worker to an MCP server."""


@operation("mcp.restart")
class RestartServer(Operation[ServerRestarted]):
    """End all connections to an MCP server; turns that need it connect again."""

    server: Name  # as the configuration names it


@operation("reload")
class Reload(Operation[ConfigurationReloaded]):
    """Read the configuration again, and apply what changed."""


@operation("drain")
class BeginDrain(Operation[Drained]):
    """Begin a drain, or join the one that runs; the response comes when it is over.

    Of two drains the nearer deadline counts, and the stronger end: stop before restart before hold.
    """

    timeout: Seconds | None = None  # for turns that run; without it: agent.restart_drain_timeout; 0 cuts them at once
    then: Then = Then.STOP  # what follows
    asker: Name | None = None  # key of the session whose turn requests this: the drain does not wait for that turn


@operation("drain.cancel")
class CancelDrain(Operation[Done]):
    """Serve again, or give a restart up that is being prepared."""


@operation("drain.status")
class ShowDrain(Operation[DrainShown]):
    """How far the drain is, and which turns run."""


@operation("drain.plan")
class PlanDrain(Operation[DrainPlanned]):
    """Estimate what a drain that begins now would wait for and cut. It changes nothing."""

    timeout: Seconds | None = None  # as of ``drain``


OnSession: TypeAlias = ShowSession | SuspendSession | ResumeSession | ResetSession | StopTurn
SessionChange: TypeAlias = SuspendSession | ResumeSession | ResetSession
Request: TypeAlias = (
    ShowStatus
    | ListAllSessions
    | OnSession
    | ClearStrikes
    | ListConnections
    | RestartServer
    | Reload
    | BeginDrain
    | CancelDrain
    | ShowDrain
    | PlanDrain
)

REQUESTS: Mapping[str, type[Request]] = {one.name: one for one in get_args(Request)}


def read(name: str, arguments: Mapping[str, Any]) -> Request:
    """The request with this name and these arguments, as they arrived.

    Raises:
        Misfit: there is no such operation, or an argument is wrong.
    """
    wanted = REQUESTS.get(name)
    if wanted is None:
        raise Misfit(f"unknown operation {name!r}")
    return from_plain(wanted, dict(arguments))
