"""A drain as a worker does it, from its first word to the cut; and how sessions are wound down.

::

    Drain ──▶ paused ──no turn runs──▶ Drained
                │  └──DrainOver──▶ what waited begins, in order
               Seal ──▶ a turn that comes to its end waits with it ──Cut──▶ interrupted

The supervisor notes who is cut between Seal and Cut, so what it notes is exactly what is cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

import structlog

from hermes_actors.wire.failpoints import point
from hermes_actors.wire.messages import Cut, Drain, Sealed
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.session import Session
from workers.sessions.turn import TurnRun
from workers.sessions.work import CutOff, Work
from workers.turn_errors import cut_error, unstored_end
from workers.turns import GatewayDraining, Refusal, TurnError

log = structlog.get_logger(__name__)

SEAL_TIMEOUT_S = 10.0  # for the cut to come after the seal: the supervisor's commit in between takes far less
CUT_TIMEOUT_S = 5.0  # for a cut turn to commit its end
RESTART_S = 5.0  # what a planned restart takes after its drain, generously
HELD_RETRY_AFTER_S = 30.0  # nobody knows when a held gateway goes on
LONGEST_RETRY_AFTER_S = 300.0


class Draining:
    """The drain of a worker: whether one goes on, whom it waits for, who is cut in the end.

    Args:
        resident: the sessions in memory, each time they are gone through.
        on_drained: told, with the number of the drain, when no turn that is waited for runs any more; not once its end
            is sealed.
    """

    def __init__(self, resident: Iterable[Session], on_drained: Callable[[int], None]) -> None:
        self._resident = resident
        self._on_drained = on_drained
        self._order: Drain | None = None
        self._has_cut = False
        self._awaited: set[Work] = set()
        self._sealed: list[tuple[Session, Work]] = []
        self._no_cut: asyncio.TimerHandle | None = None

    @property
    def goes_on(self) -> bool:
        """Whether no turn may begin."""
        return self._order is not None

    @property
    def is_held(self) -> bool:
        """Whether what has not begun waits for nobody knows how long: the turns that ran had their time."""
        return self._order is not None and (self._has_cut or time.time() >= self._order.deadline)

    @property
    def retry_after_s(self) -> float:
        """When the gateway takes messages again, as far as one can say."""
        if self._order is None:
            return RESTART_S
        left_s = max(self._order.deadline - time.time(), 0.0)
        after_s = HELD_RETRY_AFTER_S if self._order.then == "hold" else RESTART_S
        return min(left_s + after_s, LONGEST_RETRY_AFTER_S)

    def begin(self, order: Drain) -> None:
        """Hold back what has not begun, tell the callers of what runs, and wait for its end.

        Of a drain that goes on already, what is said anew is until when, what comes then, and whose turn is not waited
        for; callers hear of it where it changes what they were told.
        """
        again = self._order is not None and self._order.number == order.number
        told_over = again and not self._awaited
        self._order = order
        self._has_cut = again and self._has_cut
        self._awaited.clear()
        for session in self._resident:
            session.paused = True
            told = _told(order, session)
            for run in session.runs.values():
                if run.begun:
                    run.feed.draining(told)
                    if session.key != order.asker:
                        self._awaited.add(run)
        point("drain.heard")
        if not self._awaited and not told_over:
            self._on_drained(order.number)

    def done(self, run: Work) -> None:
        """A turn or a command is over."""
        if run in self._awaited:
            self._awaited.remove(run)
            if not self._awaited and self._order is not None:
                self._on_drained(self._order.number)

    def over(self) -> None:
        """The drain was cancelled: what waited begins, in order."""
        self._order = None
        self._awaited.clear()
        for _, run in self._unsealed():
            run.unseal()
        for session in self._resident:
            for run in session.runs.values():
                run.feed.draining(None)
            session.unpause()

    def seal(self, request: int, inherited: Iterable[str]) -> Sealed:
        """Name the turns that run; those of them that come to their end wait with it for :meth:`cut`.

        Args:
            request: of the :class:`hermes_actors.wire.messages.Seal`.
            inherited: keys of the sessions whose turns an earlier owner left, and that are not resident.
        """
        self._awaited.clear()
        self._unsealed()
        cut: list[CutTurn] = []
        busy = set(inherited)
        stateless = 0
        for session in self._resident:
            session.paused = True
            sealed = [run for run in session.runs.values() if run.seal()]
            self._sealed += [(session, run) for run in sealed]
            if session.stateless:
                stateless += len(sealed)
                continue
            cut += [CutTurn(session.key, run.submission.turn_id, session.session_id) for run in sealed]
            if session.busy and (not sealed or len(session.runs) > len(sealed)):
                busy.add(session.key)
        if self._sealed:
            self._no_cut = asyncio.get_running_loop().call_later(SEAL_TIMEOUT_S, self._cut_overdue)
        point("drain.sealed")
        return Sealed(request=request, cut=cut, busy=sorted(busy), stateless=stateless)

    def cut(self, order: Cut) -> None:
        """Interrupt the sealed turns, whose marks are durable; the callers of those that wait are sent away."""
        point("cut.begun")
        self._has_cut = True
        error = cut_error(order.reason)
        stays = self._order is not None and self._order.then == "hold"  # else the worker's end ends its tools
        for session, run in self._unsealed():
            session.was_cut(order.reason, order.at)
            run.cut(CutOff(state="interrupted", error=error, stays=stays))
            if session.held:  # it shall not wait for the restart of its actor
                session.resume_actor()
        for session in self._resident:
            for run in list(session.runs.values()):
                if not run.begun:
                    run.send_away(session.session_id)

    def _unsealed(self) -> list[tuple[Session, Work]]:
        """The sealed turns, of which there are none any more."""
        if self._no_cut is not None:
            self._no_cut.cancel()
        sealed, self._sealed = self._sealed, []
        return sealed

    def _cut_overdue(self) -> None:
        """The supervisor may have marked the sealed turns all the same: their success is to clear that."""
        sealed = self._unsealed()
        log.error("no cut came after the seal", turns=len(sealed), seconds=SEAL_TIMEOUT_S)
        for session, run in sealed:
            session.was_cut(self._order.reason if self._order else "shutdown_timeout", time.time())
            run.unseal()

    def refusal(self, *, parkable: bool) -> Refusal:
        """What the sender of a message is told while no turn may begin.

        Args:
            parkable: the message could be kept for later.
        """
        park = (
            ", or now with the headers X-Hermes-When-Draining: park, X-Hermes-Session-Id and Idempotency-Key: "
            "then it is kept, and runs as soon as the gateway serves again"
        )
        return self._refused("What to do: send it again", park if parkable else "")

    def kept_refusal(self) -> Refusal:
        """What the sender of a message that was taken before is told while :attr:`is_held`."""
        return self._refused(
            "This message is kept, and runs once as soon as the gateway serves again. "
            "What to do: ask again with the same Idempotency-Key"
        )

    def _refused(self, what: str, more: str = "") -> Refusal:
        then = "stop" if self._order is None else self._order.then
        wait_s = self.retry_after_s
        when = "later" if then == "hold" else f"in about {wait_s:.0f} s"
        return Refusal(RefusalCode.GATEWAY_DRAINING, f"{_BEGINS_NONE[then]} {what} {when}{more}.", wait_s)


_BEGINS_NONE = {
    "restart": "The gateway restarts and begins no new turn.",
    "stop": "The gateway stops and begins no new turn.",
    "hold": "The gateway is held by its operator, and begins no new turn until that is over.",
}
_GOES_ON = {
    "restart": "The gateway restarts.",
    "stop": "The gateway stops.",
    "hold": "The gateway is being held by its operator.",
}


def _told(order: Drain, session: Session) -> GatewayDraining:
    """What the callers of running turns are told, honestly."""
    until = time.strftime("%H:%M:%S UTC", time.gmtime(order.deadline))
    if session.key == order.asker:
        until = f"no other turn runs, and no longer than {until}"
    text = f"{_GOES_ON[order.then]} This turn may go on until {until}; if it has not come to its end then, it is cut. "
    if session.stateless:
        text += "It is not run again: send your request again then."
    else:
        text += (
            "The session then goes on with your next message, and the model is told what happened. "
            "A session that is cut again and again begins a fresh conversation."
        )
    return GatewayDraining(reason=order.reason, deadline=order.deadline, text=text)


# -- winding down ---------------------------------------------------------------------------------------------------


def spare_waiting(session: Session, why: TurnError) -> list[TurnRun]:
    """The turns that wait in a session: they do not begin in it, stay on disk as queued, and their callers are told.

    A stateless conversation has none: nobody could ask for them any more.
    """
    if session.stateless:
        return []
    waiting = [run for run in session.runs.values() if isinstance(run, TurnRun) and not run.begun]
    for run in waiting:
        run.feed.end(unstored_end(run.submission.turn_id, session.session_id, "interrupted", why))
        run.leave(session.session_id)
    return waiting


async def wind_down(sessions: Collection[Session], reason: str, *, unrecorded: bool) -> None:
    """Interrupt what runs in these sessions; what waits stays on disk as queued.

    Args:
        sessions: begin nothing any more.
        reason: of the interruption.
        unrecorded: no mark was made of the cuts.
    """
    begun: list[Work] = []
    for session in sessions:
        for run in list(session.runs.values()):
            if run.begun:
                begun.append(run)
            else:
                run.leave(session.session_id)
        session.held = False  # who would restart its actor stops too
        session.unpause()
    error = cut_error(reason)
    for run in begun:
        run.cut(CutOff(state="interrupted", error=error, unrecorded=unrecorded))
    if not await all_quiet(sessions, CUT_TIMEOUT_S):
        late = sum(bool(session.runs) for session in sessions)
        log.error("interrupted turns did not end in time", turns=late, seconds=CUT_TIMEOUT_S)


async def all_quiet(sessions: Iterable[Session], timeout_s: float) -> bool:
    """Wait until no turn runs or waits in these sessions, at most so long; whether that came."""
    try:
        async with asyncio.timeout(timeout_s):
            for session in sessions:
                await session.quiet.wait()
    except TimeoutError:
        return False
    return True
