"""Messages of workers and requests of operators that change the records of sessions, and their answers."""

from __future__ import annotations

from dataclasses import replace

from hermes_actors.core.drain import drain
from hermes_actors.core.effects import Compare, Effect, Log, NoteLife, Reply, Send
from hermes_actors.core.operators.pending import query, wait
from hermes_actors.core.pool import lifecycle
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.pool.policy import restart_after
from hermes_actors.core.sessions import marking, marks
from hermes_actors.core.sessions.book import BadCursor, Book
from hermes_actors.core.sessions.lives import strikes_kept_since
from hermes_actors.core.state import NEVER_RESTARTED, Pending, Process, ReplyTo, SessionEntry, State
from hermes_actors.operations.requests import ResetSession, ResumeSession, SessionChange, SuspendSession
from hermes_actors.operations.workers import EvictSession
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Attest,
    Forget,
    ListSessions,
    Opened,
    Recorded,
    Recovered,
    Refused,
    Reset,
    RestartActor,
    Resume,
    SessionPage,
    Succeeded,
    SucceededOnFallback,
    ToWorker,
)
from hermes_actors.wire.records import Lost
from hermes_actors.wire.refusals import RefusalCode

PAGE_MOST = 1000  # sessions


# -- workers -----------------------------------------------------------------------------------------------------------


def opened(state: State, process: Process, message: Opened | Attest, now: float, book: Book) -> Result:
    """A shard's file was opened, or more of it read: compare it with the registry, and give the worker more time."""
    book.write(Compare(process=process, message=message))
    return lifecycle.goes_on(state, process.slot, now), ()


def recovered(state: State, process: Process, message: Recovered, book: Book) -> Result:
    """A crash cut what ran in the shard. The first such message of this life also says which sessions were not idle."""
    marking.cut(book, message.cut, "crash")
    marking.suspend_stuck(book, message.shard)
    state = drain.recovered(state, message)
    busy = {turn.key for turn in message.cut} | set(message.queued)
    state = heard(state, message.shard, frozenset(busy), book)
    mended = {shard: fault for shard, fault in state.broken.items() if shard != message.shard or fault.serving}
    return replace(state, broken=mended), _answer(process, Recorded(request=message.request))


def heard(state: State, shard: int, busy: frozenset[str] | None, book: Book) -> State:
    """A shard was read for the first time in this life, or could not be (``busy`` None). The last ends the start."""
    if shard not in state.unheard:
        return state
    state = replace(
        state,
        unheard=state.unheard - {shard},
        unread=state.unread if busy is not None else state.unread | {shard},
        busy=state.busy | (busy or frozenset()),
    )
    if not state.unheard and book.fault is None:
        marking.clear_idle(book, state.busy, state.unread, cut_since=strikes_kept_since(book.rows.lives()))
        book.write(NoteLife(milestone="settled_at", at=book.at))
    return state if state.unheard else replace(state, busy=frozenset())


def activate(process: Process, message: Activate, book: Book) -> tuple[Effect, ...]:
    """Say which transcript a session goes on with. A message ends its suspension."""
    if message.create:
        entry: SessionEntry | None = marking.activated(book, message.key, message.principal, message.shard)
    else:
        entry = book.session(message.key)
    return _activated(process, message, entry, f"there is no session {message.key!r}", book)


def reset(process: Process, message: Reset, book: Book) -> tuple[Effect, ...]:
    """A session begins another transcript."""
    entry = marking.reset(book, message.key)
    return _activated(process, message, entry, f"there is no session {message.key!r}", book)


def resume(process: Process, message: Resume, book: Book) -> tuple[Effect, ...]:
    """A session goes back to the transcript that was set aside."""
    entry = marking.resume(book, message.key)
    return _activated(process, message, entry, f"{message.key} has no earlier transcript", book)


def forget(process: Process, message: Forget, book: Book) -> tuple[Effect, ...]:
    """A session was deleted."""
    book.forget(message.key)
    return _answer(process, Recorded(request=message.request))


def succeeded(process: Process, message: Succeeded, book: Book) -> tuple[Effect, ...]:
    """A turn of a session was answered: clear its marks and strikes."""
    marking.succeeded(book, message.key, message.turn_id)
    return _answer(process, Recorded(request=message.request))


def fell_back(process: Process, message: SucceededOnFallback, book: Book) -> tuple[Effect, ...]:
    """A turn succeeded on a fallback model: restart the actor of its session, once a turn."""
    entry = book.session(message.key)
    before = NEVER_RESTARTED if entry is None else entry.actor  # a stateless conversation has no entry
    why = f"{message.turn_id} succeeded on fallback {message.provider}/{message.model}"
    after = restart_after(before, message.turn_id, why, book.at)
    if after is None:
        return ()
    if entry is not None:
        book.change(replace(entry, actor=after))
    fields = {"worker": process.slot, "session": message.key, "why": why}
    log = Log(level="info", text="restarting an agent actor", fields=fields)
    return (log, Send(to=(process,), message=RestartActor(key=message.key)))


def page(process: Process, message: ListSessions, book: Book) -> tuple[Effect, ...]:
    """A page of a principal's sessions, for the worker that the caller came to."""
    limit = max(1, min(message.limit, PAGE_MOST))
    try:
        entries, cursor = book.rows.page(message.principal, message.after, limit)
    except BadCursor as error:
        return _answer(process, Refused(request=message.request, code=RefusalCode.BAD_REQUEST, why=str(error)))
    sessions = [
        {
            "key": entry.key,
            "session_id": entry.session_id,
            "created_at": entry.created_at,
            "last_active_at": entry.last_active_at,
        }
        for entry in entries
    ]
    return _answer(process, SessionPage(request=message.request, sessions=sessions, next=cursor))


def _activated(
    process: Process, message: Activate | Reset | Resume, entry: SessionEntry | None, unknown: str, book: Book
) -> tuple[Effect, ...]:
    if entry is None:
        return _answer(process, Refused(request=message.request, code=RefusalCode.NOT_FOUND, why=unknown))
    interrupted, fresh, suspended = marks.told(entry.marks)
    lost = book.rows.untold(entry)
    activated = Activated(
        request=message.request,
        session_id=entry.session_id,
        created_at=entry.created_at,
        resume=interrupted,
        fresh=fresh,
        strikes=book.strikes(entry.key),
        suspended=suspended,
        lost=None if lost is None else Lost(lost.what, lost.at, lost.until),
        former_id=entry.marks.former_id,
    )
    return _answer(process, activated)


def _answer(process: Process, message: ToWorker) -> tuple[Effect, ...]:
    return (Send(to=(process,), message=message),)


# -- operators ---------------------------------------------------------------------------------------------------------


def change(
    state: State, reply_to: ReplyTo, operation: SessionChange, entry: SessionEntry, now: float, book: Book
) -> Result:
    """Change a session's marks, then have its worker evict the session: its next message reads it again."""
    if isinstance(operation, ResumeSession) and marks.resume(entry.marks, entry.session_id) is None:
        why = f"{entry.key} is not suspended, and no transcript of it was set aside"
        return state, (Reply(reply_to=reply_to, error=RefusalCode.NOT_SUSPENDED, why=why),)
    to = owner_of(state, entry)
    pending = Pending(reply_to=reply_to, operation=operation, waiting=frozenset(to), entry=entry)
    state, number = wait(state, pending, now)
    change = {SuspendSession: marking.suspend, ResumeSession: marking.resume, ResetSession: marking.reset}
    change[type(operation)](book, entry.key)
    evict = Send(to=to, message=query(number, EvictSession(key=entry.key)))
    return state, (evict,) if to else ()


def owner_of(state: State, entry: SessionEntry) -> tuple[Process, ...]:
    """The process that serves a session; empty while none does."""
    slot = state.owners[entry.shard].slot
    return (state.process(slot),) if slot in state.up else ()
