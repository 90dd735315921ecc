"""How a drain went, for those who waited for its end and for the log."""

from __future__ import annotations

from hermes_actors.core.effects import Effect, Log, Reply
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.state import Drain, Waiting
from hermes_actors.operations.results import Drained, Then
from hermes_actors.wire.refusals import RefusalCode

CUT_SHOWN = 1000  # keys of sessions in a reply; all are counted
CUT_LOGGED = 100  # keys of sessions in the log

UNMARKED = (
    "the gateway stops, but the disk cannot be written, so the sessions whose turns were cut are not marked yet: "
    "the next start marks them, as after a crash"
)


def reason(drain: Drain) -> Cause:
    """What it cuts a turn by."""
    return "restart_timeout" if drain.then is Then.RESTART else "shutdown_timeout"


def over(drain: Drain) -> Log:
    """That nothing runs any more, or what is cut."""
    fields = {
        "then": drain.then.value,
        "took_s": round(drain.took_s, 3),
        "cut": list(drain.cut[:CUT_LOGGED]),
        "count": len(drain.cut),
        "stateless": drain.stateless,
        "waiting": drain.kept,
        "silent": list(drain.silent),
        "reason": reason(drain),
    }
    cut = drain.cut or drain.stateless or drain.silent
    text = "drained; what still ran is cut" if cut else "drained"
    return Log(level="warning" if cut else "info", text=text, fields=fields)


def replies(drain: Drain, to: tuple[Waiting, ...], book: Book) -> tuple[Effect, ...]:
    """Whom it cut, for each who asked for it."""
    if drain.unmarked:
        return tuple(
            Reply(client=one, request=request, error=RefusalCode.STORE_FAILED, why=UNMARKED) for one, request in to
        )
    stuck = [key for key in drain.cut if book.strikes(key) >= book.threshold]
    drained = Drained(
        marked=len(drain.cut),
        cut=drain.cut[:CUT_SHOWN],
        stateless=drain.stateless,
        waiting=drain.kept,
        silent=drain.silent,
        took_s=round(drain.took_s, 3),
        then=drain.then,
        suspended=tuple(stuck[:CUT_SHOWN]),
    )
    return tuple(Reply(client=client, request=request, result=drained) for client, request in to)
