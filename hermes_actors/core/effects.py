"""What the supervisor wants done, in the imperative.

The registry effects of a batch of events are committed before any other of its effects is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hermes_actors.core.drain.plan import Plan
from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.state import Owner, Process, SessionEntry, State
from hermes_actors.operations.requests import OnSession, SessionChange
from hermes_actors.operations.results import DONE, Drained, Then
from hermes_actors.operations.workers import SessionKnown, WorkerRequest
from hermes_actors.wire.records import CutTurn, Found, LatestTurn
from hermes_actors.wire.refusals import RefusalCode


@dataclass(frozen=True, slots=True, kw_only=True)
class OnProcess:
    """Something about one process of the pool."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersWorker(OnProcess):
    """A worker waits for the answer."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnProcesses:
    """Something for several processes of the pool."""

    to: tuple[Process, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersOperator:
    """An operator waits for the answer."""

    client: int
    request: int


# -- on the registry, inside the batch's transaction ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTable:
    """Write the owners that changed."""

    owners: Mapping[int, Owner]  # by shard


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateSession(AnswersWorker):
    """Look a session up, or make it where that is wanted, and answer the worker."""

    key: str
    principal: str
    shard: int
    create: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetSession(AnswersWorker):
    """Drop a session and answer the worker."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameSession(AnswersWorker):
    """Give a session a fresh id under its key and answer the worker."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSession(AnswersWorker):
    """Give a session back the transcript that a suspension set aside, and answer the worker."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOpened(AnswersWorker):
    """Note who opened a shard's file and what that lost, and answer the worker."""

    shard: int
    fence: int
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAttested(AnswersWorker):
    """Add the sessions that the registry does not know any more, and answer the worker."""

    shard: int
    latest: tuple[LatestTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRecovered(AnswersWorker):
    """Strike and mark the sessions that a crash cut, suspend those of the shard that are stuck, answer the worker."""

    shard: int
    shards: int
    cuts: tuple[CutTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSucceeded(AnswersWorker):
    """Forget a session's marks and strikes, and answer the worker."""

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
    """Suspend, resume or reset a session for an operator."""

    key: str
    change: SessionChange
    then: SendQuery | None  # to the worker that serves it, once it is recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearStrikes(AnswersOperator):
    """Forget the strikes of a session, or all, and answer an operator."""

    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveWritable:
    """Write something, so that it is known whether what a drain cuts could be marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStopBegan:
    """This life of the supervisor begins to cut what still runs."""

    at: float  # seconds since the epoch; of the hold where a drain was held before


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStopCancelled:
    """This life goes on after what it cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCuts:
    """Mark and strike the sessions that a drain cuts. Where the gateway stops, idle ones lose their strikes."""

    cuts: tuple[CutTurn, ...]
    reason: Cause
    drop_idle: bool
    busy: frozenset[str]  # keys of the sessions that are not idle, those of the cuts among them
    unknown: frozenset[int]  # shards of which nobody told
    shards: int
    since: float  # seconds since the epoch: strikes from then on are the drain's own


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFallback(OnProcess):
    """Record that a session's actor is restarted and have it restarted, unless this turn had its restart."""

    key: str
    turn_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchSessions:
    """Note when sessions were last active, and how far the files of shards are."""

    active: Mapping[str, float]
    turns: Mapping[int, int] = field(default_factory=dict)  # shard -> number of its last turn


@dataclass(frozen=True, slots=True, kw_only=True)
class PageForWorker(AnswersWorker):
    """Answer a worker with a page of a principal's sessions."""

    principal: str
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageForOperator(AnswersOperator):
    """Answer an operator with a page of all sessions."""

    after: str | None
    limit: int
    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplySession(AnswersOperator):
    """Answer an operator with a session as it is now."""

    entry: SessionEntry  # as it was found
    changed: bool = False  # the operator's request changed it since
    known: SessionKnown | None  # by its worker
    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDrained(AnswersOperator):
    """Answer an operator with how a drain ended; the ledger adds who of the cut will be suspended."""

    drained: Drained
    cut: tuple[str, ...]  # session keys


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPlan(AnswersOperator):
    """Answer an operator with what a drain would come to; the ledger adds strikes."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStatus(AnswersOperator):
    """Answer an operator with the status; the registry adds what it knows."""

    state: State
    now: float


# -- on processes and links ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn(OnProcess):
    """Start a process in a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(OnProcess):
    """SIGKILL a process, or one that is being started as soon as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(OnProcess):
    """SIGKILL what a gone process left running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendConfigure(OnProcess):
    """Tell a new process who it is, and whether it begins turns by itself that an earlier owner left."""

    auto_resume: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTable(OnProcesses):
    """Tell workers who owns what and who is up."""

    owners: tuple[Owner, ...]
    up: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendListen(OnProcess):
    """Tell a worker on which slots' sockets to accept."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDrain(OnProcesses):
    """Have workers begin no turn any more."""

    number: int  # which drain
    reason: Cause
    then: Then
    deadline: float  # seconds since the epoch
    asker: str | None  # key of the session whose turn is not waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDrainOver(OnProcesses):
    """Have workers begin turns again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSeal(OnProcesses):
    """Ask workers which turns run, none of which ends by itself from then on."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCut(OnProcesses):
    """Have workers interrupt the turns that they sealed."""

    reason: Cause
    at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStop(OnProcess):
    """Ask a worker to stop in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRestartActor(OnProcess):
    """Have a worker replace a session's agent actor; its tools stay connected."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendQuery(OnProcesses):
    """Request something of workers; :class:`~hermes_actors.core.events.QueryAnswered` follows from each."""

    request: int
    operation: WorkerRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReconfigure(OnProcesses):
    """Give workers the configuration that is in force; each answers as it does a query."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRefused(AnswersWorker):
    """Refuse a worker's request."""

    code: RefusalCode
    why: str


# -- on the rest of the world ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(AnswersOperator):
    """Answer an operator."""

    error: RefusalCode | None = None
    why: str = ""
    result: Any = DONE  # of the class that the operation names


@dataclass(frozen=True, slots=True, kw_only=True)
class FindSessions(AnswersOperator):
    """Find the sessions whose key is the operation's, or ends with it; SessionsFound follows."""

    operation: OnSession


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
    | ProveWritable
    | RecordStopBegan
    | RecordStopCancelled
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
    | RecordOpened
    | RecordAttested
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
