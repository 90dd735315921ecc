"""What the supervisor is told, in the past tense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hermes_actors.core.model import Limits, Load, SessionEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Everything is open; workers may start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time that was asked for has come."""

    due: float  # monotonic seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """A signal, or an operator, wants the gateway to stop."""

    now: bool  # without grace
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FromWorker:
    """Something of one process of the pool; of an earlier process than the slot's present one it is ignored."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpawned(FromWorker):
    """The process runs and has a link."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady(FromWorker):
    """The worker owns its shards and accepts connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat(FromWorker):
    """The worker's loop turns."""

    load: Load
    active: Mapping[str, float]  # session key -> last activity, seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(FromWorker):
    """The worker's link ended, or it said what no worker says."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExited(FromWorker):
    """The process is gone, or could not be made."""

    exitcode: int | None  # negative: killed by that signal; None: it never was, or nobody knows
    jitter: float  # drawn in [0, 1)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWanted(FromWorker):
    """A worker activates a session."""

    request: int
    key: str
    principal: str
    shard: int
    fence: int
    create: bool  # make it when there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDropped(FromWorker):
    """A worker deleted a session's transcript; its name goes too."""

    request: int
    key: str
    shard: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameWanted(FromWorker):
    """A session wants to begin a new transcript."""

    request: int
    key: str
    shard: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFellBack(FromWorker):
    """A turn succeeded on a fallback model, and its reply is delivered."""

    key: str
    shard: int
    fence: int
    turn_id: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWanted(FromWorker):
    """A worker lists a principal's sessions."""

    request: int
    principal: str
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBroke(FromWorker):
    """A shard's file could not be used."""

    shard: int
    why: str
    set_aside: str | None
    serving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswered(FromWorker):
    """A worker answered a question, or took a new configuration over."""

    request: int
    found: bool
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAsked:
    """A request came over the control socket."""

    client: int
    request: int
    operation: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsFound:
    """The registry's answer to :class:`~hermes_actors.core.effects.FindSessions`."""

    client: int
    request: int
    wanted: str
    found: tuple[SessionEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadAsked:
    """A signal wants the configuration to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLoaded:
    """The configuration was read again and is valid: it is in force for workers that start from now on."""

    client: int | None
    request: int
    changes: tuple[Mapping[str, Any], ...]  # key, when, what
    limits: Limits
    servers: tuple[str, ...]  # names of the configured MCP servers


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused:
    """The configuration cannot be used; nothing changed."""

    client: int | None
    request: int
    error: Literal["configuration", "bad_request", "busy"]
    why: str


Event = (
    Started
    | Tick
    | StopAsked
    | WorkerSpawned
    | WorkerReady
    | WorkerBeat
    | WorkerLost
    | WorkerExited
    | SessionWanted
    | SessionDropped
    | RenameWanted
    | TurnFellBack
    | PageWanted
    | ShardBroke
    | QueryAnswered
    | OperatorAsked
    | SessionsFound
    | ReloadAsked
    | SettingsLoaded
    | SettingsRefused
)
