"""What messages are made of, in the same shape at both ends and on the way. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Literal

from hermes_actors.wire.tags import record

Flaw = Literal["new", "damaged", "cut"]  # of a shard's file: it had to be made; it was damaged; its log lost its end


@record("cut_turn")
class CutTurn:
    """A running turn that was cut, or will be."""

    key: str  # of its session
    turn_id: str
    session_id: str | None = None  # the transcript that it ran in; None: that of its session


@record("load")
class Load:
    """How much a worker has to do; counts."""

    resident: int = 0  # agent actors in memory
    running: int = 0  # turns
    queued: int = 0  # turns
    turns: int = 0  # ended since the worker started
    mcp: int = 0  # live MCP connections


@record("interrupted_mark")
class Interrupted:
    """The session's last turn was cut. Until a turn succeeds, a note says so to the model."""

    reason: str  # restart_timeout | shutdown_timeout | crash
    at: float


@record("fresh_mark")
class Fresh:
    """The session was suspended and began a fresh transcript. Until a turn succeeds, its replies say so."""

    reason: str  # operator, or that of the last cut
    at: float  # of the suspension
    former_id: str  # session id of the transcript that was set aside


@record("suspended_mark")
class Suspended:
    """The session's next message begins a fresh transcript."""

    reason: str  # operator, or that of the last cut
    at: float


@record("lost_mark")
class Lost:
    """Files of the gateway lost some of the session. Until a turn succeeds, its replies say so."""

    what: str  # all: what was said before; end: perhaps what was said last; names: only that there was such a session
    at: float  # when that was noticed
    until: float | None  # of an end: when the last thing that is left in the file was written


@record("found_file")
class Found:
    """A shard's file as its new owner found it. Compared with what the registry knows of it, it shows what was lost."""

    fence: int  # of the owner before; 0: it had none
    turn: int  # the number of the last turn that it has had; 0: none
    until: float | None  # when the last of what it has was written
    flaw: Flaw | None = None
    why: str = ""  # of the flaw, in words
    set_aside: str | None = None  # the path that the damaged file has now
    found_by: int = 0  # fence of the owner that found the flaw: this one, or one before that may not have reported it


@record("latest_turn")
class LatestTurn:
    """The latest turn of a session in its shard's file: what a registry can be made of."""

    number: int
    turn_id: str
    key: str
    principal: str
    session_id: str
    created_at: float  # of the first turn that was looked at
    last_at: float
    cut_by: str | None  # why it was interrupted, if it was
