"""A drain as a worker does it, from its first word to the cut; and how sessions are wound down.

::

    Drain ──▶ paused ──no turn runs──▶ Drained
                │  └──DrainOver──▶ what waited begins, in order
               Seal ──▶ a turn that comes to its end waits with it ──Cut──▶ interrupted

The supervisor records between Seal and Cut whose turns are cut, so what it records is exactly what is cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

import structlog

from hermes_actors.wire.failpoints import point
from hermes_actors.wire.messages import Cut, Drain, DrainOver, Seal, Sealed
from hermes_actors.wire.records import CutTurn, Interrupted
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.agent import Resident
from workers.sessions.item import CutOff
from workers.sessions.mailbox import Closed, CutSealed, DrainBegan
from workers.sessions.session import Session
from workers.turn_errors import cut_error
from workers.turns import GatewayDraining, Refusal

log = structlog.get_logger(__name__)

SEAL_TIMEOUT_S = 10.0  # for the cut to come after the seal: the supervisor's commit in between takes far less
CUT_TIMEOUT_S = 5.0  # for a cut turn to commit its end
RESTART_S = 5.0  # what a planned restart takes after its drain, generously
HELD_RETRY_AFTER_S = 5.0  # it is not known when a held gateway goes on; libraries wait so long without a word
LONGEST_RETRY_AFTER_S = 300.0


class Draining:
    """The drain of a worker, and its stop: whether turns may begin, which the drain waits for, and which it cuts.

    Args:
        resident: the sessions in memory, each time they are gone through.
        on_drained: called with the number of the drain when no turn that is waited for runs any more; not once its end
            is sealed.
    """

    def __init__(self, resident: Iterable[Resident], on_drained: Callable[[int], None]) -> None:
        self._resident = resident
        self._on_drained = on_drained
        self._order: Drain | None = None
        self._has_cut = False
        self._stopping = False
        self._awaited: set[str] = set()  # turn ids
        self._no_cut: asyncio.TimerHandle | None = None

    @property
    def goes_on(self) -> bool:
        """Whether no turn may begin."""
        return self._order is not None

    @property
    def is_held(self) -> bool:
        """Whether it is not known how long what has not begun waits: the turns that ran had their time."""
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

        The order may come again with another deadline, another end, or another session whose turn is not waited for;
        callers hear of it where it changes what they heard before.
        """
        again = self._order is not None and self._order.number == order.number
        told_over = again and not self._awaited
        self._order = order
        self._has_cut = again and self._has_cut
        self._awaited.clear()
        for resident in self._resident:
            resident.tell(DrainBegan(told=_told(order, resident.session)))
            if resident.session.key != order.asker:
                self._awaited |= {work.turn_id for work in resident.mailbox.items.values() if work.begun}
        point("drain.heard")
        if not self._awaited and not told_over:
            self._on_drained(order.number)

    def done(self, turn_id: str) -> None:
        """A turn or a command is over."""
        if turn_id in self._awaited:
            self._awaited.remove(turn_id)
            if not self._awaited and self._order is not None:
                self._on_drained(self._order.number)

    def over(self) -> None:
        """The drain was cancelled: what waited begins, in order."""
        self._order = None
        self._awaited.clear()
        self._expect_no_cut()
        for resident in self._resident:
            resident.tell(DrainOver())

    def seal(self, order: Seal, backlog: Iterable[str]) -> Sealed:
        """Name the turns that run; those of them that come to their end wait with it for :meth:`cut`.

        Args:
            order: of the supervisor.
            backlog: keys of the sessions that are not resident, with turns that an earlier owner left.
        """
        self._awaited.clear()
        self._expect_no_cut()
        cut: list[CutTurn] = []
        busy = set(backlog)
        stateless = sealed_turns = 0
        for resident in self._resident:
            resident.tell(order)
            session, sealed = resident.session, list(resident.mailbox.sealed())
            sealed_turns += len(sealed)
            if session.stateless:
                stateless += len(sealed)
                continue
            cut += [CutTurn(session.key, work.turn_id, session.session_id) for work in sealed]
            if resident.busy and (not sealed or len(resident.mailbox.items) > len(sealed)):
                busy.add(session.key)
        if sealed_turns:
            self._no_cut = asyncio.get_running_loop().call_later(SEAL_TIMEOUT_S, self._cut_overdue)
        point("drain.sealed")
        return Sealed(request=order.request, cut=cut, busy=sorted(busy), stateless=stateless)

    def cut(self, order: Cut) -> None:
        """Interrupt the sealed turns, whose marks are durable; the callers of those that wait are sent away."""
        point("cut.begun")
        self._has_cut = True
        self._expect_no_cut()
        stays = self._order is not None and self._order.then == "hold"  # else the worker's end ends its tools
        cutoff = CutOff(state="interrupted", error=cut_error(order.reason), stays=stays)
        for resident in self._resident:
            resident.tell(CutSealed(mark=Interrupted(reason=order.reason, at=order.at), cutoff=cutoff))

    def _expect_no_cut(self) -> None:
        if self._no_cut is not None:
            self._no_cut.cancel()

    def _cut_overdue(self) -> None:
        """No cut came. The supervisor may have marked the sealed turns though, and their success is to clear that."""
        turns = sum(1 for resident in self._resident for _ in resident.mailbox.sealed())
        log.error("no cut came after the seal", turns=turns, seconds=SEAL_TIMEOUT_S)
        reason = self._order.reason if self._order else "shutdown_timeout"
        for resident in self._resident:
            resident.tell(CutSealed(mark=Interrupted(reason=reason, at=time.time()), cutoff=None))

    # -- what senders of messages read ------------------------------------------------------------------------------
    def stop(self) -> None:
        """The worker stops: nothing begins any more."""
        self._stopping = True

    @property
    def begins_nothing(self) -> bool:
        """Whether no session is activated for what waits: it is for the end of the drain, or for the next owner."""
        return self._stopping or self.goes_on

    def refuse_if_stopping(self) -> None:
        """Refuse what would begin after a stop began.

        Raises:
            Refusal: ``gateway_draining``.
        """
        if self._stopping:
            raise self.refusal(parkable=False)

    def refuse(self, *, parkable: bool, park: bool) -> None:
        """Refuse a message that may not come in now.

        Args:
            parkable: it could be kept for later.
            park: its sender wants that.

        Raises:
            Refusal: ``gateway_draining``.
        """
        self.refuse_if_stopping()
        if self.goes_on and not (parkable and park):
            raise self.refusal(parkable=parkable)

    def refusal(self, *, parkable: bool) -> Refusal:
        """The refusal of a message while no turn may begin.

        Args:
            parkable: the message could be kept for later.
        """
        park = (
            ", or now with the headers X-Hermes-When-Draining: park, X-Hermes-Session-Id and Idempotency-Key: "
            "then it is kept, and runs as soon as the gateway serves again"
        )
        return self._refused("What to do: send it again", park if parkable else "")

    def kept_refusal(self) -> Refusal:
        """The refusal of a message that was accepted before, while :attr:`is_held`."""
        return self._refused(
            "This message is kept, and runs once as soon as the gateway serves again. "
            "What to do: ask again with the same Idempotency-Key",
            kept=True,
        )

    def _refused(self, what: str, more: str = "", *, kept: bool = False) -> Refusal:
        then = "stop" if self._order is None else self._order.then
        wait_s = self.retry_after_s
        when = "later" if then == "hold" else f"in about {wait_s:.0f} s"
        return Refusal(RefusalCode.GATEWAY_DRAINING, f"{_BEGINS_NONE[then]} {what} {when}{more}.", wait_s, kept=kept)


_BEGINS_NONE = {
    "restart": "The gateway restarts and starts no new turns.",
    "stop": "The gateway stops and starts no new turns.",
    "hold": "The operator holds the gateway: until that is over it starts no new turns.",
}
_GOES_ON = {
    "restart": "The gateway restarts.",
    "stop": "The gateway stops.",
    "hold": "The operator holds the gateway.",
}


def _told(order: Drain, session: Session) -> GatewayDraining:
    """What the callers of running turns hear: how long their turn has, and what comes then."""
    until = time.strftime("%H:%M:%S UTC", time.gmtime(order.deadline))
    if session.key == order.asker:
        until = f"no other turn runs, and no longer than {until}"
    text = f"{_GOES_ON[order.then]} This turn may continue until {until}; if it still runs then, it is cut. "
    if session.stateless:
        text += "It does not run again: send your request again then."
    else:
        text += (
            "The session then continues with your next message, and the model knows what happened. "
            "A session that is cut again and again starts a fresh conversation."
        )
    return GatewayDraining(reason=order.reason, deadline=order.deadline, text=text)


# -- winding down ---------------------------------------------------------------------------------------------------


async def wind_down(residents: Collection[Resident], reason: str, *, unrecorded: bool) -> None:
    """Interrupt what runs in these sessions, for good; what waits stays on disk as queued.

    Args:
        residents: the sessions.
        reason: of the interruption.
        unrecorded: no mark was made of the cuts.
    """
    cutoff = CutOff(state="interrupted", error=cut_error(reason), unrecorded=unrecorded)
    for resident in residents:
        resident.tell(Closed(cutoff=cutoff, waiting="leave"))
    if not await all_quiet(residents, CUT_TIMEOUT_S):
        late = sum(bool(resident.mailbox.items) for resident in residents)
        log.error("interrupted turns did not end in time", turns=late, seconds=CUT_TIMEOUT_S)


async def all_quiet(residents: Iterable[Resident], timeout_s: float) -> bool:
    """Wait until no turn runs or waits in these sessions, at most so long; whether that came."""
    try:
        async with asyncio.timeout(timeout_s):
            for resident in residents:
                await resident.quiet.wait()
    except TimeoutError:
        return False
    return True
