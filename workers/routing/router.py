"""The gateway as an ingress sees it: every session is here or one hop away.

A request whose owner is down waits for the next owner, up to :data:`OWNER_WAIT_S`. However often a turn is handed over
it runs once: it carries its id, and an owner that is asked again attaches to what it knows of it. It also carries for
how long its caller waits, so that a late owner does not begin what was given up; where one may have begun it, the
caller gets :class:`workers.turns.TurnUnknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog

from hermes_actors.background import Background
from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.sharding import shard_of
from workers.conversations import StatelessConversation
from workers.gateway import SearchPage, SessionView, TranscriptPage
from workers.routing.finding import SessionFinder, SessionList
from workers.routing.listening_turn import ListeningTurn, ReadingTurn
from workers.routing.local import LocalShards
from workers.routing.messages import (
    BeginSession,
    CancelTurn,
    ClaimConversation,
    CopyTurns,
    DeleteSession,
    DescribeSession,
    DescribeTurn,
    DropResponse,
    Hello,
    OfferConversation,
    ReadHistory,
    ReadResponse,
    ReadTranscript,
    ReadTurn,
    RenameSession,
    ShardRequest,
    TurnRequest,
)
from workers.routing.owner import OwnerGone, PendingTurn, ShardOwner
from workers.routing.peers import Peer
from workers.routing.shards import ShardTable
from workers.routing.storing import Storing
from workers.session_keys import bare_request, named_conversation, new_conversation
from workers.store.shard import TranscriptCopy
from workers.turn_errors import cut_error, unstored_end, waiting_error
from workers.turn_ids import new_turn_id, shard_of_turn
from workers.turns import (
    KeptResponse,
    NumberedEvent,
    Refusal,
    Submission,
    TurnError,
    TurnHistory,
    TurnUnknown,
    TurnView,
)

log = structlog.get_logger(__name__)

OWNER_WAIT_S = 5.0  # how long a request waits for a shard that has no living owner
OWNER_RETRY_S = 0.1  # an owner may be back without a change of the table that we wait for
RETRY_AFTER_S = 2.0
PLACEMENT_TRIES = 64  # to find a name that falls into a shard of this worker

# An owner that refuses with one of these may not know of an earlier turn.
_LOOKED_NOWHERE = (RefusalCode.SHARD_UNAVAILABLE, RefusalCode.STORE_FAILED)

R = TypeVar("R")


class Router:
    """The :class:`workers.gateway.Gateway` of this worker, on its shard table.

    Args:
        local: the shards of this worker.
        hello: what this worker says to the others first.
        owner_wait_s: how long a request waits for a shard that has no living owner.
    """

    def __init__(
        self,
        table: ShardTable,
        local: LocalShards,
        registry: SessionList,
        hello: Hello,
        *,
        owner_wait_s: float = OWNER_WAIT_S,
    ) -> None:
        self._table = table
        self._local = local
        self._finder = SessionFinder(registry, self._shard_of, partial(self._ask, patient=False))
        self._hello = hello
        self._owner_wait_s = owner_wait_s
        self._storing = Storing(table)
        self._peers: dict[str, Peer] = {}  # by path; one for each slot
        self._background = Background()
        self._closed = False
        self.serving = False
        self.draining = False

    @property
    def ready(self) -> bool:
        return self.serving and not self.draining

    async def storable(self) -> bool:
        return await self._storing.fault() is None

    # -- turns ----------------------------------------------------------------------------------------------------
    def new_turn_id(self, key: str) -> str:
        return new_turn_id(self._shard_of(key))

    async def submit(self, submission: Submission, *, stream: bool) -> ListeningTurn:
        turn = ListeningTurn(submission.turn_id)
        await self._submit(submission, turn, stream=stream, again=False)
        return turn

    async def _submit(self, submission: Submission, turn: ListeningTurn, *, stream: bool, again: bool) -> None:
        number = self._shard_of(submission.key)
        pending = PendingTurn(submission=submission, turn=turn, stream=stream)

        async def hand_over(owner: ShardOwner, again: bool) -> None:
            try:
                await owner.submit(number, pending, again=again)
            except Refusal as refusal:
                if again and refusal.code in _LOOKED_NOWHERE:
                    raise TurnUnknown(submission.turn_id, refusal.why) from refusal
                raise

        try:
            await self._at_owner(number, hand_over, again=again)
        except OwnerGone as error:
            if error.may_have_it:
                raise TurnUnknown(submission.turn_id, str(error)) from error
            raise _unavailable(error) from error

    async def attach(self, principal: str, turn_id: str, after: int) -> ReadingTurn:
        turn = ReadingTurn(principal, turn_id, after)
        await self._read(turn)
        return turn

    async def _read(self, turn: ReadingTurn) -> None:
        wanted = ReadTurn(principal=turn.principal, turn_id=turn.turn_id, after=turn.seq)
        pending = PendingTurn(submission=wanted, turn=turn, stream=True)
        await self._at_turn(turn.turn_id, lambda number, owner: owner.submit(number, pending, again=False))

    async def describe_turn(self, principal: str, turn_id: str) -> TurnView:
        return await self._ask_of_turn(DescribeTurn(principal=principal, turn_id=turn_id))

    async def response(self, principal: str, turn_id: str) -> KeptResponse:
        return await self._ask_of_turn(ReadResponse(principal=principal, turn_id=turn_id))

    async def drop_response(self, principal: str, turn_id: str) -> None:
        await self._ask_of_turn(DropResponse(principal=principal, turn_id=turn_id))

    async def history(self, principal: str, turn_id: str) -> TurnHistory:
        return await self._ask_of_turn(ReadHistory(principal=principal, turn_id=turn_id))

    async def stop(self, principal: str, turn_id: str) -> bool:
        return await self._ask_of_turn(CancelTurn(principal=principal, turn_id=turn_id))

    async def _ask_of_turn(self, request: TurnRequest[R]) -> R:
        return await self._at_turn(request.turn_id, lambda number, owner: owner.ask(number, request))

    async def _at_turn(self, turn_id: str, do: Callable[[int, ShardOwner], Awaitable[R]]) -> R:
        """Do something at the owner of a turn. An id of an earlier release does not name its shard: try each."""
        shard = shard_of_turn(turn_id, self._table.shards)
        for number in range(self._table.shards) if shard is None else (shard,):
            try:
                return await self._at_owner(number, lambda owner, _, number=number: do(number, owner))  # type: ignore[misc]  # mypy infers no lambda default
            except OwnerGone as error:
                raise _unavailable(error) from error
            except Refusal as refusal:
                if refusal.code != RefusalCode.TURN_NOT_FOUND:
                    raise
        raise Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such turn.")

    def _cut(self, pending: PendingTurn[Any]) -> None:
        """The owner of an accepted turn went away: the next owner knows what became of it."""
        if self._closed:
            _tell_lost(pending.turn, "this worker stops too", cut_error("crash"))
        elif isinstance(pending.submission, ReadTurn):
            self._background.start(self._read_on(pending.turn))
        else:
            self._background.start(self._reattach(pending.submission, pending.turn, stream=pending.stream))

    async def _reattach(self, submission: Submission, turn: ListeningTurn, *, stream: bool) -> None:
        try:  # a caller who heard a beginning gets no second one
            waiting = replace(submission, park=False)  # its caller waits already
            await self._submit(waiting, turn, stream=stream and not turn.heard, again=True)
        except TurnUnknown as unknown:
            _tell_lost(turn, str(unknown), cut_error("crash"))
        except Refusal as refusal:
            _tell_lost(turn, refusal.why, waiting_error() if refusal.kept else cut_error("crash"))

    async def _read_on(self, turn: ReadingTurn) -> None:
        try:
            await self._read(turn)
        except Refusal as refusal:
            _tell_lost(turn, refusal.why, cut_error("crash"))

    # -- sessions -------------------------------------------------------------------------------------------------
    async def conversation_key(self, conversation: StatelessConversation) -> str:
        if conversation.idempotency_key is not None:  # a repeated request must meet the first one
            return named_conversation(conversation.principal, conversation.user, conversation.idempotency_key)
        if conversation.history:
            name = conversation.name
            try:
                known = await self._ask(self._shard_of(name), ClaimConversation(name=name), patient=False)
            except Refusal as refusal:  # what it knew is lost with it: an agent of its own, at once
                log.debug("conversation not claimed", why=refusal.why)
            else:
                if known is not None:
                    return known
        return self._placed_here(partial(new_conversation, conversation.principal))

    def bare_key(self, principal: str) -> str:
        return self._placed_here(partial(bare_request, principal))

    def _placed_here(self, new_key: Callable[[], str]) -> str:
        """A new key in a shard of this worker, where the request landed, if such a key is found soon."""
        for _ in range(PLACEMENT_TRIES):
            key = new_key()
            if self._shard_of(key) in self._table.open:
                break
        return key

    def offer(self, key: str, follow_ups: Iterable[StatelessConversation]) -> None:
        """Send the workers that keep the index that the agent of ``key`` now knows these histories."""
        for conversation in follow_ups:
            self._background.start(self._offer(OfferConversation(name=conversation.name, key=key)))

    async def _offer(self, known: OfferConversation) -> None:
        try:
            await self._ask(self._shard_of(known.name), known, patient=False)
        except Refusal as refusal:  # the follow-up then starts an agent of its own
            log.debug("conversation not offered", why=refusal.why)

    async def list_sessions(
        self, principal: str, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        return await self._finder.page(principal, after, limit)

    async def search_sessions(self, principal: str, text: str, after: str | None, limit: int) -> SearchPage:
        return await self._finder.search(principal, text, after, limit)

    async def rename_session(self, key: str, title: str | None) -> SessionView:
        return await self._ask(self._shard_of(key), RenameSession(key=key, title=title))

    async def describe_session(self, key: str) -> SessionView:
        return await self._ask(self._shard_of(key), DescribeSession(key=key))

    async def session_messages(self, key: str, after: int, limit: int) -> TranscriptPage:
        return await self._ask(self._shard_of(key), ReadTranscript(key=key, after=after, limit=limit))

    async def create_session(self, key: str, principal: str, title: str | None) -> SessionView:
        return await self._begin(key, principal, TranscriptCopy(turns=[], summary=None), title)

    async def fork_session(self, key: str, into: str, principal: str, through: str | None) -> SessionView:
        copy = await self._ask(self._shard_of(key), CopyTurns(key=key, through=through))
        return await self._begin(into, principal, copy, None)

    async def _begin(self, key: str, principal: str, copy: TranscriptCopy, title: str | None) -> SessionView:
        begin = BeginSession(key=key, principal=principal, copy=copy, title=title)
        return await self._ask(self._shard_of(key), begin)

    async def delete_session(self, key: str) -> None:
        await self._ask(self._shard_of(key), DeleteSession(key=key))

    # -- owners ---------------------------------------------------------------------------------------------------
    async def _ask(self, number: int, request: ShardRequest[R], *, patient: bool = True) -> R:
        try:
            return await self._at_owner(number, lambda owner, _: owner.ask(number, request), patient=patient)
        except OwnerGone as error:
            raise _unavailable(error) from error

    async def _at_owner(
        self,
        number: int,
        do: Callable[[ShardOwner, bool], Awaitable[R]],
        *,
        again: bool = False,
        patient: bool = True,
    ) -> R:
        """Do something at the owner of a shard; where that is down or changes, wait for the next one if patient.

        Args:
            number: the shard.
            do: what, given the owner and whether it may be done already.
            again: whether it may.
            patient: wait; otherwise one attempt must do.

        Raises:
            OwnerGone: no owner in time.
            Refusal: what the owner refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._owner_wait_s if patient else 0.0)
        why = "it is being replaced"
        while True:
            owner = self._owner(number)
            if owner is not None:
                try:
                    return await do(owner, again)
                except OwnerGone as error:
                    why, again = str(error), again or error.may_have_it
            left = deadline - loop.time()
            if left <= 0:
                raise OwnerGone(f"The session's worker does not answer: {why}.", may_have_it=again)
            await self._table.change(min(left, OWNER_RETRY_S))

    def _owner(self, number: int) -> ShardOwner | None:
        """Who owns a shard; None while that is down."""
        if number in self._table.open or number in self._table.unusable:  # the latter it refuses at once
            return self._local
        path = self._table.path_of_owner(number)
        if path is None:
            return None
        peer = self._peers.get(path)
        if peer is None:
            peer = self._peers[path] = Peer(path, self._hello, self._cut)
        return peer

    def _shard_of(self, name: str) -> int:
        return shard_of(name, self._table.shards)

    def close(self) -> None:
        """End the links to the other workers, and what still waits for them."""
        self._closed = True
        self._background.cancel()
        for peer in self._peers.values():
            peer.close()


def _tell_lost(turn: ListeningTurn | ReadingTurn, why: str, error: TurnError) -> None:
    log.warning("turn lost with its worker", turn=turn.turn_id, why=why)
    end = unstored_end(turn.turn_id, "", "interrupted", error)
    if isinstance(turn, ReadingTurn):
        turn.hear(NumberedEvent(seq=turn.seq + 1, event=end))
    else:
        turn.hear(end)


def _unavailable(error: OwnerGone) -> Refusal:
    return Refusal(RefusalCode.SHARD_UNAVAILABLE, str(error), RETRY_AFTER_S)
