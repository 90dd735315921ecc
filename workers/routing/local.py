"""The shards of this worker: it runs their turns and does what is requested of them."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import structlog

from hermes_actors.wire.refusals import RefusalCode
from workers.routing.conversations import ConversationIndex
from workers.routing.messages import (
    BeginSession,
    CancelTurn,
    ClaimConversation,
    CopyTurns,
    DeleteSession,
    DescribeSession,
    DescribeTurn,
    DropResponse,
    OfferConversation,
    ReadHistory,
    ReadResponse,
    ReadTitles,
    ReadTranscript,
    ReadTurn,
    RenameSession,
    SearchSessions,
    ShardRequest,
    TurnRequest,
)
from workers.routing.owner import PendingTurn, TurnCaller
from workers.routing.shards import ShardTable
from workers.sessions.admission import Admission, refusal_of
from workers.sessions.copying import begin, copy_of
from workers.sessions.finding import rename, search
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.reading import describe, page
from workers.sessions.rereading import (
    cancel_turn,
    drop_response,
    history_of,
    kept_response,
    readable,
    turn_of,
    view_of,
)
from workers.sessions.residents import Residents
from workers.store.shard import StoreFailed, TurnRow
from workers.turn_errors import STORE_FAILED_WORDS
from workers.turns import Refusal

log = structlog.get_logger(__name__)

R = TypeVar("R")


class LocalShards:
    """This worker as a :class:`workers.routing.owner.ShardOwner`, for its own ingress and for the other workers."""

    def __init__(self, table: ShardTable, sessions: Residents, admission: Admission, index: ConversationIndex) -> None:
        self._table = table
        self._sessions = sessions
        self._admission = admission
        self._index = index

    async def submit(self, shard: int, pending: PendingTurn[TurnCaller], *, again: bool) -> None:
        turn, submission, owned = pending.turn, pending.submission, self._owned(shard)
        if isinstance(submission, ReadTurn):
            await self._read(submission, turn, owned)
            return
        feed = await self._admission.submit(submission, owned, again=again)
        turn.attach(feed.turn_id, lambda: feed.leave(turn.hear))
        if not turn.ended:
            feed.listen(turn.hear, stream=pending.stream)

    async def _read(self, wanted: ReadTurn, turn: TurnCaller, shard: OwnedShard) -> None:
        try:
            row = await turn_of(wanted.principal, wanted.turn_id, shard)
            feed = await readable(row, shard, self._admission)
        except StoreFailed as error:
            log.error("turn not read", turn=wanted.turn_id, shard=shard.number, why=str(error))  # noqa: TRY400  # the reason says it all
            raise refusal_of(error) from error
        listener = feed.numbering(turn.hear)
        turn.attach(feed.turn_id, lambda: feed.leave(listener))
        if not turn.ended:
            feed.read(turn.hear, listener, wanted.after)

    async def ask(self, shard: int, request: ShardRequest[R]) -> R:
        owned = self._owned(shard)
        try:
            return cast("R", await self._done(owned, request))
        except StoreFailed as error:
            kind = type(request).__name__
            log.error("request not done", request=kind, shard=shard, why=str(error))  # noqa: TRY400  # the reason says it all
            raise refusal_of(error) from error

    async def _done(self, shard: OwnedShard, request: ShardRequest[Any]) -> Any:
        match request:
            case ClaimConversation():
                return self._index.claim(request.name)
            case OfferConversation():
                return self._index.offer(request.name, request.key)
            case DescribeSession():
                return await describe(self._sessions, request.key, shard)
            case ReadTranscript():
                return await page(self._sessions, request.key, shard, request.after, request.limit)
            case CopyTurns():
                return await copy_of(request.key, request.through, shard, self._sessions)
            case BeginSession():
                await begin(request.key, request.principal, request.copy, shard, self._sessions)
                if request.title is not None:
                    await rename(request.key, request.title, shard, self._sessions)
                return await describe(self._sessions, request.key, shard)
            case RenameSession():
                await rename(request.key, request.title, shard, self._sessions)
                return await describe(self._sessions, request.key, shard)
            case ReadTitles():
                return await shard.store.titles(request.keys)
            case SearchSessions():
                return await search(request.transcripts, request.text, shard.store)
            case DeleteSession():
                return await self._sessions.delete(request.key, shard)
            case CancelTurn() | DescribeTurn() | ReadResponse() | DropResponse() | ReadHistory():
                row = await turn_of(request.principal, request.turn_id, shard)
                return await self._done_with_turn(row, shard, request)
            case _:
                raise TypeError(f"{type(request).__name__} is no request about a shard")

    async def _done_with_turn(self, row: TurnRow, shard: OwnedShard, request: TurnRequest[Any]) -> Any:
        match request:
            case DescribeTurn():
                return view_of(row, shard)
            case ReadResponse():
                return await kept_response(row, shard)
            case DropResponse():
                return await drop_response(row, shard)
            case ReadHistory():
                return await history_of(row, shard, self._sessions)
            case _:
                return await cancel_turn(row, shard, self._admission, self._sessions)

    def _owned(self, number: int) -> OwnedShard:
        shard = self._table.open.get(number)
        if shard is None and number in self._table.unusable:
            raise Refusal(RefusalCode.STORE_FAILED, STORE_FAILED_WORDS)
        if shard is None:
            raise Refusal(RefusalCode.NOT_OWNER, f"Shard {number} is not open here.")
        return shard
