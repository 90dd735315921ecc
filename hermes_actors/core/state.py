"""What the supervisor knows: workers, the shard table, and the requests that wait for workers' responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.marks import UNMARKED, MarkRecord
from hermes_actors.operations.requests import ListConnections, OnSession, PlanDrain, Reload, RestartServer, ShowDrain
from hermes_actors.operations.results import Change, Drained, Phase, Then, WorkerState
from hermes_actors.wire.messages import Sealed, ShardBroken
from hermes_actors.wire.records import Load


class Owner(NamedTuple):
    """Who owns a shard. ``fence`` grows with every new owning process."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot of the pool and the process in it. Times are monotonic seconds."""

    slot: int
    state: WorkerState = WorkerState.RESTARTING
    generation: int = 0  # processes the slot has had in this boot
    pid: int | None = None  # of a live process that has a link
    since: float = 0.0  # when it came into its state
    ready_at: float | None = None  # when the present process came to serve
    heard_at: float = 0.0  # its last heartbeat
    load: Load = field(default_factory=Load)  # as its last heartbeat had it
    failed_at: tuple[float, ...] = ()  # deaths since it was last stable, those inside the restart window
    slow_tries: int = 0  # replacements since it was given up
    retry_at: float | None = None
    lost: str | None = None  # why its link ended, as long as it may still end by itself
    unrecorded: bool = False  # it waits for the disk: its ownership could not be recorded
    last_exit: int | None = None  # exit code; negative: killed by that signal


class ActorRecord(NamedTuple):
    """What is kept of a session's agent actor, over its passivations and every restart of the gateway."""

    generation: int = 1  # actors it has had, counting restarts after a fallback, the present one included
    restarts: int = 0
    last_restart_reason: str | None = None
    last_restart_at: float | None = None  # seconds since the epoch
    last_fallback_turn: str | None = None  # which had a restart: one turn has no second one


NEVER_RESTARTED = ActorRecord()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """A session as the registry has it. Times are seconds since the epoch."""

    key: str
    session_id: str
    principal: str
    shard: int
    created_at: float
    last_active_at: float
    actor: ActorRecord = NEVER_RESTARTED
    marks: MarkRecord = UNMARKED
    told: int = 0  # its person knows of the losses up to this number
    refound: int = 0  # number of the loss after which it was found again, until its person knows of that


class Process(NamedTuple):
    """One process of the pool."""

    slot: int
    generation: int


class ReplyTo(NamedTuple):
    """Where an operator's request gets its reply."""

    client: int  # connection of the control socket
    request: int  # number that the client chose


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A request of an operator that waits for the responses of workers."""

    reply_to: ReplyTo | None  # None: a signal requested it
    operation: OnSession | ListConnections | RestartServer | Reload | ShowDrain | PlanDrain
    response: type[Any] | None = None  # what each worker answers with; None: that it is done
    waiting: frozenset[Process]  # they have not responded yet
    responses: Mapping[int, Any] = field(default_factory=dict)  # by slot; each a ``response``
    deadline: float = 0.0
    entry: SessionEntry | None = None  # the session that it is about
    changes: tuple[Change, ...] = ()  # of the configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured bounds, in seconds where they are times."""

    heartbeat_s: float
    max_restarts: int
    restart_window_s: float
    drain_timeout_s: float
    stuck_threshold: int  # strikes that suspend a session


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """The workers got the request to report what runs. From then on no turn ends by itself."""

    request: int
    deadline: float
    waiting: frozenset[Process]  # they have not answered yet
    answers: Mapping[Process, Sealed] = field(default_factory=dict)
    whole: frozenset[int] = frozenset()  # slots of those that had read all their shards when they answered


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """What an operator, a signal or a message in a session requests: a drain, and what follows it."""

    then: Then
    timeout_s: float | None = None  # None: the configured one
    by: str  # in words
    asker: str | None = None  # key of the session whose turn asks
    reply_to: ReplyTo | None = None
    signal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """The next life of this process is being prepared."""

    number: int
    requests: tuple[DrainRequest, ...]  # for a restart; they begin their drain when it is ready


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainInProgress:
    """A drain, until it is cancelled or the gateway ends. Times are monotonic seconds."""

    number: int  # workers repeat it
    then: Then
    by: str  # who requested it, in words
    asker: str | None  # key of the session whose turn requested it; the drain does not wait for that turn
    before: Phase  # where a cancelled drain goes back to
    began_at: float
    deadline: float
    signals: int = 0  # that requested it
    waiting: tuple[ReplyTo, ...] = ()
    drained: frozenset[Process] = frozenset()  # no turn runs there
    seal: Sealing | None = None
    sealed_at: float | None = None  # for the first time
    unmarked: bool = False  # what it cut could not be recorded
    stop_noted: bool = False  # it is recorded that this life of the supervisor began to cut what ran
    unread: frozenset[tuple[int, int]] = frozenset()  # slot and shard: of a worker that died meanwhile, to be recovered
    crashed: tuple[str, ...] = ()  # keys of the sessions that such a death cut, as their recovery told
    outcome: Drained | None = None  # once what ran was cut; None before


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that decisions depend on."""

    boot: str = ""  # id of this life of the supervisor
    limits: Limits
    workers: tuple[Slot, ...]  # by slot
    owners: tuple[Owner, ...]  # by shard
    servers: tuple[str, ...] = ()  # names of the configured MCP servers
    phase: Phase = Phase.STARTING
    broken: Mapping[int, ShardBroken] = field(default_factory=dict)  # by shard
    pending: Mapping[int, Pending] = field(default_factory=dict)  # by the number that the workers got
    asked: int = 0  # requests to workers so far
    drains: int = 0  # so far
    unheard: frozenset[int] = frozenset()  # shards that no worker of this life has opened yet
    unread: frozenset[int] = frozenset()  # of those that were, which could not be read
    busy: frozenset[str] = frozenset()  # sessions that were not idle before this start, until all shards are open
    auto_resume: bool = True  # workers begin the turns that an earlier life left waiting
    preparation: Preparation | None = None
    preparations: int = 0  # so far
    drain: DrainInProgress | None = None
    stop_deadline: float | None = None
    spare_sockets: int = 0  # that listen beyond the slots' own: left by a life with more workers
    ledger: Ledger = field(default_factory=Ledger)  # strikes
    epoch: float = 0.0  # the time of monotonic zero, in seconds since the epoch; told before each batch of events

    def wall(self, at: float) -> float:
        """A monotonic time in seconds since the epoch."""
        return self.epoch + at

    def with_worker(self, worker: Slot) -> State:
        """The same, with this worker in its slot."""
        workers = (*self.workers[: worker.slot], worker, *self.workers[worker.slot + 1 :])
        return replace(self, workers=workers)

    def shards_of(self, slot: int) -> Iterator[int]:
        """The shards a slot owns."""
        return (shard for shard, owner in enumerate(self.owners) if owner.slot == slot)

    @property
    def up(self) -> tuple[int, ...]:
        """The slots whose workers serve."""
        return tuple(worker.slot for worker in self.workers if worker.state is WorkerState.READY)

    @property
    def live(self) -> tuple[Process, ...]:
        """The processes that serve, or are configured already and soon will."""
        return tuple(
            Process(worker.slot, worker.generation)
            for worker in self.workers
            if worker.pid is not None and worker.state in (WorkerState.STARTING, WorkerState.READY)
        )

    def process(self, slot: int) -> Process:
        """The present process of a slot."""
        return Process(slot, self.workers[slot].generation)
