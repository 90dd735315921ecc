"""The messages between the supervisor and a worker.

Every message about a shard carries its fence: the number of its ownership, which only grows. A request carries a number
that its sender chose; the answer repeats it.
"""

from __future__ import annotations

from typing import Any

from hermes_actors.wire.records import CutTurn, Found, Fresh, Interrupted, LatestTurn, Load, Lost, Suspended
from hermes_actors.wire.tags import message


@message("caused")
class Caused:
    """What every message here travels in (:class:`hermes_actors.wire.caused.CausedLink`)."""

    cause: int | None  # number of the supervisor's event that led to it; None: it began in the worker
    message: Any


# -- supervisor to worker -----------------------------------------------------------------------------------------


@message("settings")
class WorkerSettings:
    """The configuration that is in force."""

    config: dict[str, Any]  # hermes_actors.config.model.Config as plain data
    environment: dict[str, str]  # the variables the configuration names: secrets
    api_keys: dict[str, str]  # principal -> bearer key: secrets


UNFILLED = WorkerSettings(config={}, environment={}, api_keys={})  # until a message leaves: decisions know no secrets


@message("configure")
class Configure:
    """The first message: who the worker is and what it serves. Home and settings are filled in as it leaves."""

    boot: str  # id of this life of the supervisor; marks the processes that belong to it
    slot: int
    generation: int  # how many processes this slot has had, this one included
    shards: int  # of the whole home; fixed when it was made
    auto_resume: bool  # begin the turns that an earlier owner left waiting; false in a chain of young deaths
    home: str = ""
    settings: WorkerSettings = UNFILLED


@message("assign")
class Assign:
    """The whole shard table, each time it changes. A worker opens the shards that it gained, and closes the others."""

    owners: dict[int, list[int]]  # shard -> [slot, fence]
    up: list[int]  # slots whose workers serve, and have a socket for other workers


@message("listen")
class Listen:
    """On which slots' listening sockets to accept: its own, and for a while those of workers that are down."""

    slots: list[int]


@message("activated")
class Activated:
    """Answer to :class:`Activate`, :class:`Reset` and :class:`Resume`: a session as the registry has it."""

    request: int
    session_id: str
    created_at: float  # seconds since the epoch, as all times here
    resume: Interrupted | None
    fresh: Fresh | None
    strikes: int
    suspended: Suspended | None = None
    lost: Lost | None = None
    former_id: str | None = None  # the transcript that a suspension set aside


@message("refused")
class Refused:
    """A request of a worker that could not be done."""

    request: int
    code: str  # stale_fence | not_found | bad_request | store_failed
    why: str


@message("session_page")
class SessionPage:
    """Answer to :class:`ListSessions`: sessions as plain data, newest activity first."""

    request: int
    sessions: list[dict[str, Any]]
    next: str | None


@message("reckoned")
class Reckoned:
    """Answer to :class:`Opened` and :class:`Attest`: what the registry makes of a shard's file."""

    request: int
    since: int | None  # the worker attests the sessions of turns with larger numbers, perhaps again; None: none
    lost: str | None  # why some or all of what the file had is gone


@message("recorded")
class Recorded:
    """Answer to :class:`Recovered`, :class:`Succeeded` and :class:`Forget`: it is durable."""

    request: int


@message("drain")
class Drain:
    """Begin no turn any more, tell the callers whose turns run, and send :class:`NoTurnRuns` once none does.

    It comes again, with the same number, when something of it changes.
    """

    number: int  # which drain
    reason: str  # restart_timeout | shutdown_timeout: what a turn that is cut in the end was cut by
    then: str  # restart | stop | hold: what follows
    deadline: float  # seconds since the epoch
    asker: str | None  # key of the session whose turn requested this; do not wait for that turn


@message("drain_over")
class DrainOver:
    """The drain was cancelled: begin turns again, those that waited first."""


@message("seal")
class Seal:
    """Report which turns run at this moment, and let none of them end by itself before :class:`Cut` comes."""

    request: int


@message("cut")
class Cut:
    """Interrupt the sealed turns: their marks are durable."""

    reason: str  # restart_timeout | shutdown_timeout
    at: float  # of the marks


@message("restart_actor")
class RestartActor:
    """Replace a session's agent actor by a fresh one, which tries the primary model first. Its tools stay connected."""

    key: str


@message("reconfigure")
class Reconfigure:
    """A new, valid configuration. The worker applies what it can change while it runs, then it answers."""

    request: int
    settings: WorkerSettings = UNFILLED


@message("query")
class Query:
    """The supervisor requests something of a worker on behalf of an operator."""

    request: int
    operation: str  # a name of hermes_actors.operations.workers
    arguments: dict[str, Any]  # its fields


@message("stop")
class StopWorker:
    """Stop in order: turns, ingress, actors, MCP, then exit 0. What runs had its time in the drain before."""


# -- worker to supervisor -----------------------------------------------------------------------------------------


@message("ready")
class Ready:
    """The worker owns its shards and accepts connections."""


@message("heartbeat")
class Heartbeat:
    """The worker's loop runs. It also reports what changed since the last one, for the registry."""

    load: Load
    active: dict[str, float]  # session key -> last activity, seconds since the epoch
    reached: dict[int, int]  # shard -> number of the last turn that its file has


@message("activate")
class Activate:
    """Which transcript does this session key point to? Where there is none: made, or refused as ``not_found``."""

    request: int
    key: str
    principal: str
    shard: int
    fence: int
    create: bool


@message("list_sessions")
class ListSessions:
    """A page of a principal's sessions."""

    request: int
    principal: str
    after: str | None
    limit: int


@message("forget")
class Forget:
    """Drop a session from the registry; its transcript is gone already."""

    request: int
    key: str
    shard: int
    fence: int


@message("reset")
class Reset:
    """A session begins a new transcript under its key; answered with :class:`Activated`."""

    request: int
    key: str
    shard: int
    fence: int


@message("fell_back")
class SucceededOnFallback:
    """A turn succeeded on a fallback model; its reply is delivered and committed."""

    key: str
    shard: int
    fence: int
    turn_id: str
    provider: str
    model: str


@message("opened")
class Opened:
    """A worker opened a shard's file and found it like this; it serves none of it yet."""

    request: int
    shard: int
    fence: int
    found: Found


@message("attest")
class Attest:
    """The latest turns of sessions as a shard's file has them, for a registry that may not know them any more."""

    request: int
    shard: int
    fence: int
    latest: list[LatestTurn]


@message("recovered")
class Recovered:
    """What an earlier owner of a shard left behind; asked before anything of it is changed on disk."""

    request: int
    shard: int
    fence: int
    cut: list[CutTurn]  # turns that were running: each was cut by a crash
    queued: list[str]  # keys of the sessions with turns that wait


@message("succeeded")
class Succeeded:
    """A turn of a session with marks or strikes succeeded, and is on disk; the caller gets its end after the answer."""

    request: int
    key: str
    shard: int
    fence: int
    turn_id: str


@message("resume")
class Resume:
    """A session goes back to the transcript that was set aside; answered with :class:`Activated`, or ``not_found``."""

    request: int
    key: str
    shard: int
    fence: int


@message("drained")
class NoTurnRuns:
    """After :class:`Drain`: no turn runs here any more, but for the one that asked for the drain."""

    number: int  # of the drain


@message("sealed")
class Sealed:
    """Answer to :class:`Seal`."""

    request: int
    cut: list[CutTurn]  # the sessions' turns that run
    busy: list[str]  # keys of the sessions with turns that wait, or that are being activated
    stateless: int  # turns that run and belong to no session


@message("restart_wanted")
class RestartWanted:
    """An administrator requested a planned restart in a message; the drain does not wait for that session's turn."""

    key: str


@message("answer")
class QueryResponse:
    """Answer to :class:`Query`; ``found`` false: the worker knows nothing of it. Also to :class:`Reconfigure`."""

    request: int
    found: bool
    data: dict[str, Any]


@message("shard_broken")
class ShardBroken:
    """A shard's file could not be used and was set aside; the shard goes on empty where that was possible."""

    shard: int
    why: str
    set_aside: str | None  # path the broken file has now
    serving: bool


OfShard = (
    Activate | Forget | Reset | Resume | SucceededOnFallback | Opened | Attest | Recovered | Succeeded
)  # from its owner
FromWorker = (
    OfShard | Ready | Heartbeat | ListSessions | NoTurnRuns | Sealed | RestartWanted | QueryResponse | ShardBroken
)
ToWorker = (
    Configure
    | Assign
    | Listen
    | Activated
    | Refused
    | SessionPage
    | Reckoned
    | Recorded
    | Drain
    | DrainOver
    | Seal
    | Cut
    | RestartActor
    | Reconfigure
    | Query
    | StopWorker
)
