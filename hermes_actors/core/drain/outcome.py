"""How a drain ended, for the operators who requested it and for the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hermes_actors.core.effects import Effect, Log, Reply
from hermes_actors.core.sessions.book import Book
from hermes_actors.core.sessions.ledger import Cause
from hermes_actors.core.state import DrainInProgress, ReplyTo
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import Drained, Then
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode

CUT_SHOWN = 1000  # keys of sessions in a reply; all are counted
CUT_LOGGED = 100  # keys of sessions in the log

UNMARKED = (
    "the gateway stops, but the disk cannot be written, so the sessions whose turns were cut are not marked yet: "
    "the next start marks them, as after a crash"
)


def reason(drain: DrainInProgress) -> Cause:
    """Why it cuts a turn, as marks and strikes record it."""
    return "restart_timeout" if drain.then is Then.RESTART else "shutdown_timeout"


def outcome(
    drain: DrainInProgress,
    cuts: Sequence[CutTurn],
    waiting: Collection[str],
    silent: Collection[int],
    now: float,
    book: Book,
) -> Drained:
    """What the drain cuts, once all workers have answered or are late.

    Args:
        drain: with the answers of the workers.
        cuts: the sessions' turns that ran.
        waiting: keys of the sessions whose turns wait.
        silent: slots of the workers that died before they said what ran.
        now: monotonic seconds.
        book: where the cuts are marked, if they can be.
    """
    assert drain.seal is not None
    cut = (*drain.crashed, *(turn.key for turn in cuts))
    stuck = [key for key in cut if book.strikes(key) >= book.threshold]
    return Drained(
        marked=len(cut),
        cut=cut[:CUT_SHOWN],
        stateless=sum(answer.stateless for answer in drain.seal.answers.values()),
        waiting=len(waiting),
        silent=tuple(sorted(silent)),
        suspended=tuple(stuck[:CUT_SHOWN]),
        took_s=round(now - drain.began_at, 3),
        then=drain.then,
    )


def logged(drained: Drained, cause: Cause) -> Log:
    """A line of the log: nothing runs any more, or what is cut."""
    cut = drained.marked or drained.stateless or drained.silent
    text = "drained; what still ran is cut" if cut else "drained"
    fields = {**to_plain(drained), "cut": list(drained.cut[:CUT_LOGGED]), "reason": cause}
    return Log(level="warning" if cut else "info", text=text, fields=fields)


def replies(drain: DrainInProgress, to: tuple[ReplyTo, ...]) -> tuple[Effect, ...]:
    """How it ended, for each operator who waits for that."""
    if drain.unmarked:
        return tuple(Reply(reply_to=one, error=RefusalCode.STORE_FAILED, why=UNMARKED) for one in to)
    assert drain.outcome is not None
    return tuple(Reply(reply_to=one, result=drain.outcome) for one in to)
