"""What the supervisor wants done, in the imperative.

The registry effects of a batch of events are committed before any other of its effects is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hermes_actors.core.ledger import Cause, Cut
from hermes_actors.core.model import Owner, Process, SessionEntry
from hermes_actors.core.plan import Plan

About = Literal["session", "mcp", "restart_mcp", "running", "stop_turn", "evict"]
SessionChange = Literal["suspend", "resume", "reset"]

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
class RestoreSession:
    """Give a session back the transcript that a suspension set aside, and answer the worker."""

    slot: int
    generation: int
    request: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRecovered:
    """Strike and mark the sessions that a crash cut, suspend those of the shard that are stuck, answer the worker."""

    slot: int
    generation: int
    request: int
    shard: int
    shards: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSucceeded:
    """Forget a session's marks and strikes, and answer the worker."""

    slot: int
    generation: int
    request: int
    key: str
    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleStart:
    """Every shard was heard: sessions that were idle before this start lose their strikes."""

    busy: frozenset[str]  # session keys
    unread: frozenset[int]  # shards that could not be read
    shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteReady:
    """This life of the supervisor came to serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSession:
    """Suspend, resume or reset a session at an operator's wish."""

    key: str
    change: SessionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearStrikes:
    """Forget the strikes of a session, or all, and answer an operator."""

    client: int
    request: int
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStopBegan:
    """This life of the supervisor begins to cut what still runs."""

    at: float  # seconds since the epoch; of the hold where a drain was held before


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCuts:
    """Mark and strike the sessions that a drain cuts. Where the gateway stops, idle ones lose their strikes."""

    cuts: tuple[Cut, ...]
    reason: Cause
    drop_idle: bool
    busy: frozenset[str]  # keys of the sessions that are not idle, those of the cuts among them
    unknown: frozenset[int]  # shards of which nobody told
    shards: int
    since: float  # seconds since the epoch: strikes from then on are the drain's own


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
class ReplySession:
    """Answer an operator with a session as it is now; ``known``: by its worker, empty where that knows nothing."""

    client: int
    request: int
    entry: SessionEntry  # as it was found
    known: Mapping[str, Any]
    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDrained:
    """Answer an operator with how a drain ended; the ledger adds who of the cut will be suspended."""

    client: int
    request: int
    data: Mapping[str, Any]
    cut: tuple[str, ...]  # session keys


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPlan:
    """Answer an operator with what a drain would come to; the ledger adds strikes."""

    client: int
    request: int
    plan: Plan


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
    """Tell a new process who it is, and whether it begins turns by itself that an earlier owner left."""

    slot: int
    generation: int
    auto_resume: bool = True


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
class SendDrain:
    """Have workers begin no turn any more."""

    to: tuple[Process, ...]
    number: int  # which drain
    reason: Cause
    deadline: float  # seconds since the epoch
    asker: str | None  # key of the session whose turn is not waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDrainOver:
    """Have workers begin turns again."""

    to: tuple[Process, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSeal:
    """Ask workers which turns run, none of which ends by itself from then on."""

    to: tuple[Process, ...]
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCut:
    """Have workers interrupt the turns that they sealed."""

    to: tuple[Process, ...]
    reason: Cause
    at: float  # seconds since the epoch


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
    code: Literal["stale_fence", "bad_request", "store_failed"]
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
    operation: str  # what is to be done with it


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Read the configuration again; SettingsLoaded or SettingsRefused follows."""

    client: int | None  # None: a signal asked
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRestart:
    """Make the next life of this process ready; RestartPrepared or RestartRefused follows."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropNextLife:
    """There is no next life, for now: end what was made ready for it, or is being."""


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
class TellServiceManager:
    """Tell who started the gateway how it goes on, and for how long to be patient."""

    about: Literal["draining", "restarting", "stopping", "held", "serving"]
    within_s: float  # until the next notice, or the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """All workers are gone: end the process, or run it anew."""

    restart: bool


MarkingEffect = (
    RecordRecovered
    | RecordSucceeded
    | RecordStopBegan
    | RecordCuts
    | SettleStart
    | NoteReady
    | ChangeSession
    | ClearStrikes
    | ReplyPlan
    | ReplyDrained
)
RegistryEffect = (
    MarkingEffect
    | CommitTable
    | ActivateSession
    | ForgetSession
    | RenameSession
    | RestoreSession
    | RecordFallback
    | TouchSessions
    | PageForWorker
    | PageForOperator
    | ReplySession
    | ReplyStatus
)
SendToOne = SendConfigure | SendListen | SendStop | SendRestartActor | SendRefused
SendToMany = SendTable | SendDrain | SendDrainOver | SendSeal | SendCut | SendQuery | SendReconfigure
MessageEffect = SendToOne | SendToMany
OutwardEffect = (
    Spawn
    | Kill
    | Sweep
    | MessageEffect
    | Reply
    | FindSessions
    | LoadSettings
    | PrepareRestart
    | DropNextLife
    | Log
    | Announce
    | TellServiceManager
    | Finish
)
Effect = RegistryEffect | OutwardEffect
