"""What the shell has to do, in the imperative.

What a batch of events writes is committed before any other of its effects is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hermes_actors.core.sessions.lives import Incident, Milestone
from hermes_actors.core.state import Owner, Process, ReplyTo, SessionEntry
from hermes_actors.operations.requests import OnSession
from hermes_actors.operations.results import DONE
from hermes_actors.wire.messages import Attest, Opened, ToWorker
from hermes_actors.wire.refusals import RefusalCode

# -- on the records, inside the batch's transaction ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOwners:
    """Write the owners that changed."""

    owners: Mapping[int, Owner]  # by shard


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSession:
    """Write a session: a new one whole; of another all but its principal, its shard and its times."""

    key: str
    entry: SessionEntry | None  # None: drop it and its history


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteIncident:
    """Add to the history what happened to a session."""

    incident: Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchSessions:
    """Note when sessions were last active, and how far the files of shards are."""

    active: Mapping[str, float]
    turns: Mapping[int, int] = field(default_factory=dict)  # shard -> number of its last turn


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteLife:
    """How far this life of the supervisor came; the first time counts."""

    milestone: Milestone
    at: float | None  # seconds since the epoch; None: it went back, since a stop was cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveWritable:
    """Write something. If that fails, a drain could not mark what it cuts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Compare what a shard's file has with what the registry knows of it, and answer the worker."""

    process: Process
    message: Opened | Attest


# -- on processes and links ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Start a process in a slot."""

    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL a process; one that is being started, as soon as it has started."""

    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """SIGKILL what a gone process left running."""

    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a message to workers."""

    to: tuple[Process, ...]
    message: ToWorker


# -- on the rest of the world ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer an operator."""

    reply_to: ReplyTo
    error: RefusalCode | None = None
    why: str = ""
    result: Any = DONE  # of the class that the operation names


@dataclass(frozen=True, slots=True, kw_only=True)
class FindSessions:
    """Find the sessions whose key is the one in the operation, or ends with it; SessionsFound follows."""

    reply_to: ReplyTo
    operation: OnSession


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Read the configuration again; SettingsLoaded or SettingsRefused follows."""

    reply_to: ReplyTo | None  # None: a signal requested it


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRestart:
    """Prepare the next life of this process; RestartPrepared or RestartRefused follows."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropNextLife:
    """No restart follows any more: end what was prepared for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Write a line to the log."""

    level: Literal["info", "warning", "error"]
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """Tell the service manager how the gateway goes on, and how long that takes at most."""

    about: Literal["ready", "draining", "restarting", "stopping", "held", "serving"]
    within_s: float = 0.0  # until the next notice, or the end


@dataclass(frozen=True, slots=True, kw_only=True)
class EndProcess:
    """All workers are gone: end the process, or restart it in place."""

    restart: bool


Write = WriteOwners | WriteSession | WriteIncident | TouchSessions | NoteLife | ProveWritable | Compare
Outward = (
    Spawn
    | Kill
    | Sweep
    | Send
    | Reply
    | FindSessions
    | LoadSettings
    | PrepareRestart
    | DropNextLife
    | Log
    | Announce
    | EndProcess
)
Effect = Write | Outward
