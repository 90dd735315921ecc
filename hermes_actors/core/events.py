"""What happened, in the past tense. The supervisor decides what follows."""

from __future__ import annotations

from dataclasses import dataclass

from hermes_actors.core.state import Limits, Process, ReplyTo, SessionEntry
from hermes_actors.operations.requests import OnSession, Request
from hermes_actors.operations.results import Change
from hermes_actors.wire.messages import FromWorker
from hermes_actors.wire.refusals import RefusalCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Records and sockets are open: workers may start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time that :func:`hermes_actors.core.step.due` named has come."""

    due: float  # monotonic seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """A signal requests a stop of the gateway."""

    now: bool  # without waiting for turns
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpawned:
    """The process runs and has a link."""

    process: Process
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A worker sent a message. A message of an earlier process of its slot is ignored."""

    process: Process
    message: FromWorker
    cause: int | None = None  # number of the event that it answers; None: it began in the worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """The worker's link ended, or the worker sent something that is no message of a worker."""

    process: Process
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExited:
    """The process is gone, or could not be made."""

    process: Process
    exitcode: int | None  # negative: killed by that signal; None: it never ran, or its exit code is not known
    jitter: float  # drawn in [0, 1)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPrepared:
    """The next life of this process can begin."""

    number: int  # of the preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRefused:
    """With the code and the configuration on disk, the next life of this process could not serve."""

    number: int  # of the preparation
    error: RefusalCode  # configuration | cannot_restart
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAsked:
    """A request came over the control socket."""

    reply_to: ReplyTo
    operation: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsFound:
    """The registry's answer to :class:`~hermes_actors.core.effects.FindSessions`."""

    reply_to: ReplyTo
    operation: OnSession
    found: tuple[SessionEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadAsked:
    """A signal requests that the configuration is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLoaded:
    """The configuration was read again and is valid. Workers that start from now on use it."""

    reply_to: ReplyTo | None
    changes: tuple[Change, ...]
    limits: Limits
    servers: tuple[str, ...]  # names of the configured MCP servers


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused:
    """The configuration on disk cannot be used; nothing changed."""

    reply_to: ReplyTo | None
    error: RefusalCode  # configuration | bad_request | busy
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRefused:
    """The disk refused what another event would have written: nothing of that event was done."""

    event: Event
    why: str


ProcessEvent = WorkerSpawned | Said | WorkerLost | WorkerExited
Event = (
    Started
    | Tick
    | StopAsked
    | ProcessEvent
    | RestartPrepared
    | RestartRefused
    | OperatorAsked
    | SessionsFound
    | ReloadAsked
    | SettingsLoaded
    | SettingsRefused
    | DiskRefused
)
