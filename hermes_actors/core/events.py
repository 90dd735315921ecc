"""What the supervisor is told, in the past tense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hermes_actors.core.state import Limits, SessionEntry
from hermes_actors.operations.requests import OnSession, Request
from hermes_actors.operations.results import Change
from hermes_actors.wire.records import CutTurn, Found, LatestTurn, Load
from hermes_actors.wire.refusals import RefusalCode


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

    now: bool  # without waiting for turns
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FromWorker:
    """Something of one process of the pool; of an earlier process than the slot's present one it is ignored."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FromOwner(FromWorker):
    """Something of the owner of a shard; of one that is not, or not any more, it is refused."""

    shard: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAsked(FromOwner):
    """The owner of a shard waits for an answer."""

    request: int


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
    reached: Mapping[int, int] = field(default_factory=dict)  # shard -> number of the last turn that its file has


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
class SessionWanted(OwnerAsked):
    """A worker activates a session."""

    key: str
    principal: str
    create: bool  # make it when there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDropped(OwnerAsked):
    """A worker deleted a session's transcript; its name goes too."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameWanted(OwnerAsked):
    """A session wants to begin a new transcript."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWanted(OwnerAsked):
    """A session wants the transcript back that a suspension set aside."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOpened(OwnerAsked):
    """A worker opened a shard's file, and serves nothing of it before it knows what it lost."""

    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsAttested(OwnerAsked):
    """A shard's file has these sessions."""

    latest: tuple[LatestTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecovered(OwnerAsked):
    """A worker found this in a shard that it opens, and waits with changing it until that is recorded."""

    cut: tuple[CutTurn, ...]  # turns that a process died of, or with
    queued: tuple[str, ...]  # keys of the sessions with turns that wait


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSucceeded(OwnerAsked):
    """A turn of a session with marks or strikes succeeded; its end is told when that is recorded."""

    key: str
    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFellBack(FromOwner):
    """A turn succeeded on a fallback model, and its reply is delivered."""

    key: str
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
class WorkerDrained(FromWorker):
    """No turn runs there any more, and none begins."""

    number: int  # of the drain


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSealed(FromWorker):
    """What runs there, and does not end by itself any more."""

    request: int
    cut: tuple[CutTurn, ...]
    busy: frozenset[str]  # keys of the sessions with turns that wait
    stateless: int  # turns that run and belong to no session


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartWanted(FromWorker):
    """An administrator asked for a planned restart in a message."""

    key: str  # of the session whose turn asks


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPrepared:
    """The next life of this process is ready to begin."""

    number: int  # of the preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRefused:
    """There can be no next life, with the code and the configuration that are on disk now."""

    number: int  # of the preparation
    error: RefusalCode  # configuration | cannot_restart
    why: str


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
    operation: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsFound:
    """The registry's answer to :class:`~hermes_actors.core.effects.FindSessions`."""

    client: int
    request: int
    operation: OnSession
    found: tuple[SessionEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadAsked:
    """A signal wants the configuration to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLoaded:
    """The configuration was read again and is valid: it is in force for workers that start from now on."""

    client: int | None
    request: int
    changes: tuple[Change, ...]
    limits: Limits
    servers: tuple[str, ...]  # names of the configured MCP servers


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused:
    """The configuration cannot be used; nothing changed."""

    client: int | None
    request: int
    error: RefusalCode  # configuration | bad_request | busy
    why: str


RecordEvent = (
    SessionWanted
    | SessionDropped
    | RenameWanted
    | RestoreWanted
    | ShardOpened
    | SessionsAttested
    | ShardRecovered
    | TurnSucceeded
    | TurnFellBack
    | PageWanted
)
ProcessEvent = (
    WorkerSpawned | WorkerReady | WorkerBeat | WorkerLost | WorkerExited | ShardBroke | WorkerDrained | WorkerSealed
)
Event = (
    Started
    | Tick
    | StopAsked
    | ProcessEvent
    | RecordEvent
    | RestartWanted
    | RestartPrepared
    | RestartRefused
    | QueryAnswered
    | OperatorAsked
    | SessionsFound
    | ReloadAsked
    | SettingsLoaded
    | SettingsRefused
)
