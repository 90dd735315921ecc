"""What the supervisor wants done, in the imperative.

The registry effects of a batch of events are committed before any other of its effects is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hermes_actors.core.model import Owner, Process

About = Literal["session", "mcp", "restart_mcp"]

# -- on the registry, inside the batch's transaction ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTable:
    """Write the owners that changed."""

    owners: Mapping[int, Owner]  # by shard


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateSession:
    """Look a session up, or make it where that is wanted, and answer the worker."""

    slot: int
    generation: int
    request: int
    key: str
    principal: str
    shard: int
    create: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetSession:
    """Drop a session and answer the worker."""

    slot: int
    generation: int
    request: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameSession:
    """Give a session a fresh id under its key and answer the worker."""

    slot: int
    generation: int
    request: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFallback:
    """Record that a session's actor is restarted and have it restarted, unless this turn had its restart."""

    slot: int
    generation: int
    key: str
    turn_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchSessions:
    """Note when sessions were last active."""

    active: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageForWorker:
    """Answer a worker with a page of a principal's sessions."""

    slot: int
    generation: int
    request: int
    principal: str
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageForOperator:
    """Answer an operator with a page of all sessions."""

    client: int
    request: int
    after: str | None
    limit: int
    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStatus:
    """Answer an operator with the status; the registry adds its count."""

    client: int
    request: int
    data: Mapping[str, Any]


# -- on processes and links ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Start a process in a slot."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL a process, or one that is being started as soon as it is."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """SIGKILL what a gone process left running."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendConfigure:
    """Tell a new process who it is."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTable:
    """Tell workers who owns what and who is up."""

    to: tuple[Process, ...]
    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendListen:
    """Tell a worker on which slots' sockets to accept."""

    slot: int
    generation: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStop:
    """Ask a worker to stop in order."""

    slot: int
    generation: int
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRestartActor:
    """Have a worker replace a session's agent actor; its tools stay connected."""

    slot: int
    generation: int
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendQuery:
    """Ask workers something; :class:`~hermes_actors.core.events.QueryAnswered` follows from each."""

    to: tuple[Process, ...]
    request: int
    about: About
    key: str  # the session's; the server's name


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReconfigure:
    """Give workers the configuration that is in force; each answers as it does a query."""

    to: tuple[Process, ...]
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRefused:
    """Refuse a worker's request."""

    slot: int
    generation: int
    request: int
    code: Literal["stale_fence", "bad_request"]
    why: str


# -- on the rest of the world ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer an operator."""

    client: int
    request: int
    error: str | None = None
    why: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindSessions:
    """Find the sessions whose key is this, or ends with it, in the committed registry; SessionsFound follows."""

    client: int
    request: int
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Read the configuration again; SettingsLoaded or SettingsRefused follows."""

    client: int | None  # None: a signal asked
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Write a line to the log."""

    level: Literal["info", "warning", "error"]
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """The gateway serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """All workers are gone: end the process."""


RegistryEffect = (
    CommitTable
    | ActivateSession
    | ForgetSession
    | RenameSession
    | RecordFallback
    | TouchSessions
    | PageForWorker
    | PageForOperator
    | ReplyStatus
)
MessageEffect = (
    SendConfigure | SendTable | SendListen | SendStop | SendRestartActor | SendQuery | SendReconfigure | SendRefused
)
OutwardEffect = Spawn | Kill | Sweep | MessageEffect | Reply | FindSessions | LoadSettings | Log | Announce | Finish
Effect = RegistryEffect | OutwardEffect
