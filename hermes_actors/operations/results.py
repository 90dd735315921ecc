"""What operators get. ``_at`` is a time in seconds since the epoch, ``_s`` a number of seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias


class Phase(StrEnum):
    """Where the gateway is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"  # turns that run may end, none begins
    HELD = "held"  # drained: nothing runs until an operator says what follows
    STOPPING = "stopping"
    STOPPED = "stopped"


class WorkerState(StrEnum):
    """Where a slot's worker is in its life."""

    STARTING = "starting"  # spawned or being spawned, not ready yet
    READY = "ready"
    STOPPING = "stopping"  # asked to stop in order
    KILLED = "killed"  # SIGKILL is sent, or its link ended; its exit is awaited
    RESTARTING = "restarting"  # gone; its replacement comes at ``retry_at``
    GIVEN_UP = "given_up"  # gone, and its replacements too, too often: tried slowly
    STOPPED = "stopped"  # gone for good


class Then(StrEnum):
    """What follows a drain."""

    HOLD = "hold"
    RESTART = "restart"
    STOP = "stop"


Outcome: TypeAlias = Literal["finishes", "cut", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request was done; there is nothing more to say."""


DONE = Done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Something that the supervisor collected from its workers."""

    missing: tuple[int, ...]  # slots of the workers that gave no answer in time


# -- the gateway ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where HTTP clients connect."""

    host: str  # as configured
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShown:
    """A worker process. Counts are those of its last heartbeat."""

    slot: int
    generation: int  # processes that the slot has had, this one included
    pid: int | None  # None: no process runs
    state: WorkerState
    shards: tuple[int, ...]  # that it owns
    resident: int  # sessions in memory
    running: int  # turns
    queued: int  # turns that wait
    turns: int  # turns since it started
    mcp: int  # connections to MCP servers
    heartbeat_age_s: float | None  # since its last heartbeat; None: it has not served yet
    restarts: int  # of the slot since the supervisor started
    last_exit: int | None  # exit code of the process before; negative: killed by that signal


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenShard:
    """A shard whose file could not be used."""

    shard: int
    why: str  # for people
    set_aside: str | None  # the path that the broken file has now
    serving: bool  # whether the shard serves, with what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The parts that sessions are spread over."""

    total: int
    broken: tuple[BrokenShard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainFacts:
    """A drain; without one each field is None."""

    then: Then | None  # what follows
    by: str | None  # who requested it, in words
    asker: str | None  # key of the session whose turn requested it: the drain does not wait for that turn
    began_at: float | None
    deadline_at: float | None  # what runs then is cut
    left_s: float | None  # until the deadline; None: the drain no longer waits


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """The ledger of strikes."""

    sessions: int  # that have strikes
    fault: str | None  # why strikes are kept in memory alone
    set_aside: str | None  # the path that a corrupt ledger has now


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFacts:
    """The registry of sessions."""

    fault: str | None  # why it cannot be written


class Loss(NamedTuple):
    """Something that a file lost."""

    n: int  # losses are numbered as they are noticed
    at: float  # when it was noticed, in seconds since the epoch
    shard: int | None  # whose file; None: the registry's
    what: Literal["all", "end", "names"]  # all conversations of a shard, their end, or names of sessions
    why: str  # for people
    set_aside: str | None  # the path that the damaged file has now
    until: float | None  # of an end: when the last thing that is left was written, in seconds since the epoch
    sessions: int  # of names: how many were found again


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """The process of the supervisor."""

    version: str
    pid: int  # of the supervisor
    boot: str  # id of this life of the supervisor
    home: str  # path
    started_at: float
    http: Listening | None  # None: it does not listen yet


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFacts(ProcessFacts):
    """What the registry and the ledger say of the gateway."""

    suspended: int  # sessions
    resume_pending: int  # sessions whose last turn was cut
    sessions: int  # registered
    ledger: LedgerFacts
    registry: RegistryFacts
    losses: tuple[Loss, ...]  # the last ones that were noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(StoredFacts):
    """The supervisor, its workers and what is broken."""

    phase: Phase
    workers: tuple[WorkerShown, ...]  # by slot
    shards: Shards
    preparing: bool  # a restart is being prepared, and drains when it is ready
    drain: DrainFacts | None


class Change(NamedTuple):
    """One difference between two configurations."""

    key: str  # dotted; of an MCP server or a caller with its name: mcp_servers.files, api_server.keys.alice
    when: Literal["now", "next_turn", "restart"]  # it applies; a turn that runs goes on with what it began with
    what: str  # for people; no value of a variable, and nothing else that may be a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded(Collected):
    """The configuration was read again."""

    changes: tuple[Change, ...]


# -- sessions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLine:
    """A session in a list."""

    key: str
    session_id: str  # of its transcript
    worker: int  # slot of the owner
    state: str  # available | unavailable; of one that its worker knows: idle | busy | passivated
    suspended: bool
    resume_pending: bool
    resume_reason: str | None  # what cut its last turn
    strikes: int  # cuts in a row
    created_at: float
    last_active_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsListed:
    """A page of sessions."""

    sessions: tuple[SessionLine, ...]
    next: str | None  # cursor of the next page; None: this is the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection to an MCP server."""

    worker: int | None = None  # slot; absent in ``sessions.show``
    server: str  # its name in the configuration
    scope: str  # worker: its sessions share it | session
    session: str | None  # key of its session
    state: str  # connecting | up | waiting | down
    since: float  # when it came into its state, in seconds since the epoch
    starts: int  # how often it was made
    calls: int
    last_error: str | None
    detail: str | None  # what the server itself said when it failed last
    pid: int | None  # of its process


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorShown:
    """What is kept of a session's actor."""

    generation: int  # actors that the session has had
    restarts: int  # after answers of fallback models
    last_restart_reason: str | None
    last_restart_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksShown:
    """Whether a session is marked, and why."""

    standing: Literal["clear", "resume_pending", "suspended"]
    reason: str | None  # what cut its last turn, or ``operator``
    at: float | None  # when, in seconds since the epoch
    turn_id: str | None  # which turn was cut
    former_id: str | None  # the transcript that a suspension set aside


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryShown:
    """The part of a conversation that its model gets as a summary."""

    turns: int  # that it summarises
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionShown(SessionLine):
    """One session. What its worker knows is missing where no worker answers."""

    mcp: tuple[Connection, ...]  # that it uses
    turns: dict[str, int]  # how many are in which state
    actor: ActorShown
    marks: MarksShown
    model: str | None = None  # chosen with /model; absent: the configured one, or the session is not in memory
    summary: SummaryShown | None = None  # absent: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStopped(Collected):
    """Whether a turn was stopped."""

    stopped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StrikesCleared:
    """Whose strikes were cleared."""

    cleared: tuple[str, ...]  # session keys


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsListed(Collected):
    """The connections of all workers to MCP servers."""

    connections: tuple[Connection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRestarted(Collected):
    """Connections to an MCP server were ended."""

    restarted: int  # connections


# -- drains -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTurn:
    """A turn that runs."""

    worker: int  # slot
    key: str  # of its session
    turn_id: str
    started_at: float
    stateless: bool  # it belongs to no session
    usual_s: float | None = None  # median of the session's last turns; absent: not asked for, or there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainShown(DrainFacts):
    """How far a drain is; without one, what runs."""

    phase: Phase
    preparing: bool  # a restart is being prepared, and drains when it is ready
    turns: tuple[RunningTurn, ...]  # the oldest first, at most 200
    count: int  # of all turns that run
    queued: int  # turns that wait
    missing: tuple[int, ...]  # slots of the workers that gave no answer in time


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTurn:
    """A turn that runs, and whether a drain would wait for its end or cut it."""

    worker: int  # slot
    key: str  # of its session
    turn_id: str
    stateless: bool  # it belongs to no session
    usual_s: float | None  # median of the session's last turns; None: there are none
    age_s: float
    outcome: Outcome  # it would finish in time, be cut, or nothing is known
    strikes: int  # of its session now
    suspends: bool  # a cut would suspend its session


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPlanned(Collected):
    """An estimate of what a drain would wait for and cut."""

    timeout_s: float  # that turns would get
    turns: tuple[PlannedTurn, ...]  # the oldest first, at most 1000
    finishes: int  # turns, of all
    cut: int
    unknown: int
    queued: int  # turns that wait, and would run afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How a drain ended."""

    marked: int  # sessions that were cut and marked
    cut: tuple[str, ...]  # their keys, at most 1000
    stateless: int  # turns of no session that were cut
    waiting: int  # sessions with messages that wait, and run once the gateway serves
    silent: tuple[int, ...]  # slots of workers that died before they said what they ran: that is cut as by a crash
    suspended: tuple[str, ...] = ()  # keys of sessions that were cut too often in a row, at most 1000
    took_s: float
    then: Then  # what follows
