"""What files lost: how that is noticed, and which sessions it concerns. Pure.

The registry keeps two figures of each shard's file that only grow: the fence of the last owner that opened it, and the
number of the last turn that it was seen to have. A file that shows less is an earlier one, or its end is gone. The
other way round, a turn of a session that the registry does not know shows what the registry lost.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hermes_actors.core.state import SessionEntry
from hermes_actors.wire.records import Found, LatestTurn

What = Literal["all", "end", "names"]

NOT_KNOWN = -1  # the last turn of a shard that an earlier release served


class Known(NamedTuple):
    """What the registry knows of a shard's file."""

    fence: int  # of the last owner that opened it; 0: none did
    turn: int  # the number of the last turn that it was seen to have, or NOT_KNOWN
    is_used: bool = True  # whether it may have had a turn; else nothing was lost


def lost_of_shard(known: Known, found: Found) -> tuple[What, str] | None:
    """What a shard's file lost and why, or None. A flaw is noted once, with the opening of the owner that found it."""
    match found.flaw if known.fence < found.found_by else None:
        case "damaged":
            return "all", f"it was damaged: {found.why}"
        case "new" if known.fence == 0 or not known.is_used:
            return None
        case "new":
            return "all", found.why
        case "cut":
            return ("end" if found.turn else "all"), found.why
    if found.fence < known.fence or found.turn < known.turn:
        return ("end" if found.turn else "all"), "its file is older than it was, or lost its write-ahead log (-wal)"
    return None


def is_behind(entry: SessionEntry | None, latest: LatestTurn) -> bool:
    """Whether the registry lost a session, or what it did last: it does not know the transcript of its latest turn.

    A turn precedes no entry, and a deleted session has no turn. A transcript that is older than the entry's was left
    by a reset, one that was set aside can be resumed; the ids of transcripts sort by time.
    """
    if entry is None:
        return True
    return latest.session_id > entry.session_id and latest.session_id != entry.marks.former_id
