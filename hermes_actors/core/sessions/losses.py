"""What files lost: how that is noticed, and which sessions it concerns. Pure.

The registry keeps two figures of each shard's file that only grow: the fence of the last owner that opened it, and the
number of the last turn that it was seen to have. A file that shows less is an earlier one, or its end is gone. The
other way round, a turn of a session that the registry does not know shows what the registry lost.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hermes_actors.core.state import SessionEntry

What = Literal["all", "end", "names"]
Flaw = Literal["new", "damaged", "cut"]

NOT_KNOWN = -1  # the last turn of a shard that an earlier release served


class Loss(NamedTuple):
    """Something that a file lost."""

    n: int  # losses are numbered as they are noticed
    at: float  # when it was noticed; seconds since the epoch, like all times here
    shard: int | None  # whose file; None: the registry's
    what: What  # of a shard's conversations: all, or the end; names: sessions that the registry did not know any more
    why: str  # in words, for operators
    set_aside: str | None  # the path that a damaged file has now
    until: float | None  # of an end: when the last thing that is left was written
    sessions: int  # of names: how many were found again


class Known(NamedTuple):
    """What the registry knows of a shard's file."""

    fence: int  # of the last owner that opened it; 0: nobody did
    turn: int  # the number of the last turn that it was seen to have, or NOT_KNOWN
    is_used: bool = True  # whether it may have had a turn; else nobody misses it


class Seen(NamedTuple):
    """A shard's file as its new owner found it."""

    fence: int  # of the owner before; 0: it had none
    turn: int  # the number of the last turn that it has had; 0: none
    until: float | None  # when the last of what it has was written
    flaw: Flaw | None
    why: str  # of the flaw
    set_aside: str | None
    found_by: int  # fence of the owner that found the flaw, which may have died before it knew that it was noted


class Latest(NamedTuple):
    """The latest turn of a session in its shard's file."""

    number: int
    turn_id: str
    key: str
    principal: str
    session_id: str
    created_at: float  # of the first turn that was looked at
    last_at: float
    cut_by: str | None  # why it was interrupted, if it was


def lost_of_shard(known: Known, seen: Seen) -> tuple[What, str] | None:
    """What a shard's file lost and why, or None. A flaw is noted once, with the opening of the owner that found it."""
    match seen.flaw if known.fence < seen.found_by else None:
        case "damaged":
            return "all", f"it was damaged: {seen.why}"
        case "new" if known.fence == 0 or not known.is_used:
            return None
        case "new":
            return "all", seen.why
        case "cut":
            return ("end" if seen.turn else "all"), seen.why
    if seen.fence < known.fence or seen.turn < known.turn:
        return ("end" if seen.turn else "all"), "its file is older than it was, or lost its write-ahead log (-wal)"
    return None


def is_behind(entry: SessionEntry | None, latest: Latest) -> bool:
    """Whether the registry lost a session, or what it did last: it does not know the transcript of its latest turn.

    A turn precedes no entry, and a deleted session has no turn. A transcript that is older than the entry's was left
    by a reset, one that was set aside can be resumed; the ids of transcripts sort by time.
    """
    if entry is None:
        return True
    return latest.session_id > entry.session_id and latest.session_id != entry.marks.former_id
