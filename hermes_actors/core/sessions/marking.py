"""The rules by which cuts, successes and operators change the marks and strikes of sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from hermes_actors.core.effects import Log
from hermes_actors.core.sessions import ledger as strikes
from hermes_actors.core.sessions import marks
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.ledger import Cause, Ledger
from hermes_actors.core.sessions.lives import What
from hermes_actors.core.sessions.marks import MarkRecord, Standing
from hermes_actors.core.state import SessionEntry
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.sharding import shard_of


def left_over(ledger: Ledger, session: Callable[[str], SessionEntry | None], *, lost: bool) -> Ledger:
    """The ledger at a start, without the strikes of sessions that have no mark or are gone.

    A kill between the registry's commit and the ledger's leaves such strikes.

    Args:
        ledger: as its file has it.
        session: looks a session up in the registry.
        lost: the registry lost sessions and may get them back from the shard files; they keep their strikes for now.
    """
    entries = {key: session(key) for key in ledger.entries}
    over = [
        key
        for key, entry in entries.items()
        if (entry is None and not lost) or (entry is not None and entry.marks.standing is Standing.CLEAR)
    ]
    return strikes.clear(ledger, over)


def cut(book: Book, cuts: Iterable[CutTurn], cause: Cause) -> None:
    """Running turns were cut: a strike and a mark for each session, once, however often the cut is reported.

    A session that an operator reset since then, while no process ran it, gets neither.
    """
    found = [(turn, entry) for turn in cuts if (entry := book.session(turn.key)) is not None]
    known = [(turn, entry) for turn, entry in found if turn.session_id in (None, entry.session_id)]
    struck = [turn for turn, entry in known if entry.marks.standing is not Standing.SUSPENDED]
    book.ledger = strikes.cut(book.ledger, struck, cause, book.at)
    for turn, entry in known:
        after = marks.cut(entry.marks, cause, turn.turn_id, book.at)
        if after is not entry.marks:  # else the history has this cut already, with the mark
            book.change(replace(entry, marks=after))
            book.note(entry, "cut", reason=cause, turn_id=turn.turn_id)


def suspend_stuck(book: Book, shard: int) -> tuple[str, ...]:
    """Suspend the sessions of a shard that have too many strikes; returns their keys.

    No worker may serve the shard yet: else a session may be about to succeed.
    """
    shards = book.shards
    ledger, keys = strikes.suspended_at(book.ledger, book.threshold, lambda key: shard_of(key, shards) == shard)
    for key in keys:
        entry = book.session(key)
        # It may have been deleted, or an earlier life recorded this and died before it wrote the ledger.
        if entry is not None and entry.marks.standing is not Standing.SUSPENDED:
            reason = book.ledger.entries[key].causes[-1]
            book.change(replace(entry, marks=marks.stuck(entry.marks, reason, book.at)))
            book.note(entry, "suspended", reason=reason)
            fields = {"session": key, "strikes": book.strikes(key), "last": reason}
            book.log(Log(level="warning", text="session suspended", fields=fields))
    book.ledger = ledger
    return keys


def clear_idle(book: Book, busy: AbstractSet[str], unknown: AbstractSet[int], *, cut_since: float) -> None:
    """The supervisor stops, or has started: clear the strikes of each session without a running or waiting turn.

    Marks stay.

    Args:
        book: the records.
        busy: keys of the sessions that have such a turn.
        unknown: shards about which no worker could say; their sessions keep their strikes.
        cut_since: strikes from then on are kept, in seconds since the epoch.
    """
    unheard = {key for key in book.ledger.entries if shard_of(key, book.shards) in unknown}
    before = book.ledger
    book.ledger = strikes.clear_idle(before, busy | unheard, threshold=book.threshold, now=book.at, cut_since=cut_since)
    for key in before.entries.keys() - book.ledger.entries.keys():
        entry = book.session(key)
        if entry is not None and book.rows.latest_of(key) != "idle":  # see suspend_stuck
            book.note(entry, "idle")


def activated(book: Book, key: str, principal: str, shard: int) -> SessionEntry:
    """A message came: make a new session, or begin a fresh transcript of a suspended one."""
    entry = book.session(key)
    if entry is None:
        entry = SessionEntry(
            key=key,
            session_id=book.new_id(),
            principal=principal,
            shard=shard,
            created_at=book.at,
            last_active_at=book.at,
            told=book.rows.last_loss(),
        )
        book.change(entry)
        return entry
    if entry.marks.standing is not Standing.SUSPENDED:
        return entry
    fresh = book.new_id(entry.session_id, entry.marks.former_id)
    return _changed(book, entry, fresh, marks.begin_afresh(entry.marks, entry.session_id), "fresh")


def succeeded(book: Book, key: str, turn_id: str) -> None:
    """A turn was answered: clear marks and strikes."""
    entry = book.session(key)
    if entry is None or entry.marks.standing is Standing.SUSPENDED:  # meanwhile, by an operator
        return
    if book.rows.untold(entry) is not None:
        entry = replace(entry, told=book.rows.last_loss(), refound=0)
        book.change(entry)
        book.note(entry, "told", turn_id=turn_id)
    if not entry.marks.plain or book.strikes(key):
        _changed(book, entry, entry.session_id, marks.succeed(entry.marks), "succeeded", turn_id=turn_id)


def reset(book: Book, key: str) -> SessionEntry | None:
    """Begin another transcript of a session; None where there is no such session."""
    entry = book.session(key)
    if entry is None:
        return None
    fresh = book.new_id(entry.session_id, entry.marks.former_id)
    return _changed(book, entry, fresh, marks.reset(entry.marks, entry.session_id), "reset")


def resume(book: Book, key: str) -> SessionEntry | None:
    """Go back to the transcript that was set aside; None where none was, or there is no such session."""
    entry = book.session(key)
    back = None if entry is None else marks.resume(entry.marks, entry.session_id)
    if entry is None or back is None:
        return None
    return _changed(book, entry, *back, "resumed")


def suspend(book: Book, key: str) -> None:
    """An operator takes a session out of service."""
    entry = book.session(key)
    if entry is not None and entry.marks.standing is not Standing.SUSPENDED:
        after = marks.suspend(entry.marks, book.at)
        _changed(book, entry, entry.session_id, after, "suspended", reason=marks.BY_OPERATOR)


def clear(book: Book, key: str | None) -> tuple[str, ...]:
    """Clear the strikes of a session, or of all, for an operator; the keys that had some. Marks stay."""
    wanted = book.ledger.entries.keys() if key is None else book.ledger.entries.keys() & {key}
    cleared = tuple(sorted(wanted))
    book.ledger = strikes.clear(book.ledger, cleared)
    for one in cleared:
        entry = book.session(one)
        if entry is not None:
            book.note(entry, "cleared")
    return cleared


def _changed(
    book: Book,
    entry: SessionEntry,
    session_id: str,
    after: MarkRecord,
    what: What,
    *,
    reason: str | None = None,
    turn_id: str | None = None,
) -> SessionEntry:
    """Change the marks of a session, and clear its strikes."""
    book.clear_strikes(entry.key)
    changed = replace(entry, session_id=session_id, marks=after)
    book.change(changed)
    book.note(entry, what, reason=reason or entry.marks.reason, turn_id=turn_id)
    return changed
