"""What the supervisor knows: workers, the shard table, and the requests that wait for a worker's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple


class Phase(StrEnum):
    """Where the gateway is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"


class WorkerState(StrEnum):
    """Where a slot's worker is in its life."""

    STARTING = "starting"  # spawned or being spawned, not ready yet
    READY = "ready"
    STOPPING = "stopping"  # asked to stop in order
    KILLED = "killed"  # SIGKILL is sent, its exit is awaited
    RESTARTING = "restarting"  # gone; its replacement comes at ``retry_at``
    GIVEN_UP = "given_up"  # gone, and its replacements too, too often: tried slowly
    STOPPED = "stopped"  # gone for good


class Owner(NamedTuple):
    """Who owns a shard. ``fence`` grows with every new owning process."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker said of itself with its last heartbeat; counts."""

    resident: int = 0
    running: int = 0
    queued: int = 0
    turns: int = 0
    mcp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A slot of the pool and the process in it. Times are monotonic seconds."""

    slot: int
    state: WorkerState = WorkerState.RESTARTING
    generation: int = 0  # processes the slot has had in this boot
    pid: int | None = None  # of a live process that has a link
    since: float = 0.0  # when it came into its state
    ready_at: float | None = None  # when the present process came to serve
    heard_at: float = 0.0  # its last heartbeat
    load: Load = Load()
    failed_at: tuple[float, ...] = ()  # deaths since it was last stable, those inside the restart window
    slow_tries: int = 0  # replacements since it was given up
    retry_at: float | None = None
    last_exit: int | None = None  # exit code; negative: killed by that signal


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFault:
    """What a worker said of a shard's broken file."""

    why: str
    set_aside: str | None
    serving: bool


class ActorRecord(NamedTuple):
    """What is kept of a session's agent actor, over its passivations and every restart of the gateway."""

    generation: int = 1  # incarnations that the supervisor wanted, the present one included
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


class Process(NamedTuple):
    """One process of the pool."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowSession:
    """What its worker knows of this session."""

    entry: SessionEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ListConnections:
    """The MCP connections of all workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartServer:
    """How many connections to an MCP server were restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconfigured:
    """Whether every worker has the new configuration."""

    changes: tuple[Mapping[str, Any], ...]


Wanted = ShowSession | ListConnections | RestartServer | Reconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What waits for the answers of workers."""

    client: int | None  # of the control socket; None: a signal asked
    request: int
    wanted: Wanted
    deadline: float
    waiting: frozenset[Process]  # they were asked and have not answered
    answers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # by slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured bounds, in seconds where they are times."""

    heartbeat_s: float
    max_restarts: int
    restart_window_s: float
    stop_grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that decisions depend on."""

    limits: Limits
    workers: tuple[Worker, ...]  # by slot
    owners: tuple[Owner, ...]  # by shard
    servers: tuple[str, ...] = ()  # names of the configured MCP servers
    phase: Phase = Phase.STARTING
    broken: Mapping[int, ShardFault] = field(default_factory=dict)  # by shard
    questions: Mapping[int, Question] = field(default_factory=dict)  # by the request id that the workers got
    asked: int = 0  # questions so far
    stop_deadline: float | None = None

    def with_worker(self, worker: Worker) -> State:
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
