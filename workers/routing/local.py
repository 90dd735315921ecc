"""The shards of this worker: their turns are run here, their questions answered."""

from __future__ import annotations

from typing import Any

import structlog

from hermes_actors.wire.refusals import RefusalCode
from workers.routing.conversations import Directory
from workers.routing.owner import Handover
from workers.routing.shards import ShardTable
from workers.sessions.admission import Admission, refusal_of
from workers.sessions.feed import TurnFeed
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Sessions
from workers.store.shard import StoreFailed
from workers.turn_errors import STORE_FAILED_WORDS
from workers.turns import Refusal, Submission

log = structlog.get_logger(__name__)


class Local:
    """This worker as an :class:`workers.routing.owner.Owner`, for its own ingress and for the other workers."""

    def __init__(self, table: ShardTable, sessions: Sessions, admission: Admission, directory: Directory) -> None:
        self._table = table
        self._sessions = sessions
        self._admission = admission
        self._directory = directory

    async def submit(self, shard: int, handover: Handover, *, again: bool) -> None:
        turn = handover.turn
        feed = await self.submitted(shard, handover.submission, again)
        feed.listen(turn.hear, stream=handover.stream)
        turn.attach(feed.turn_id, lambda: feed.leave(turn.hear))

    async def submitted(self, shard: int, submission: Submission, again: bool) -> TurnFeed:
        """Take a turn.

        Raises:
            Refusal: not accepted.
            Parked: kept, for after the drain that goes on.
        """
        return await self._admission.submit(submission, self._owned(shard), again=again)

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        owned = self._owned(shard)
        try:
            return await self._answer(owned, what, data)
        except StoreFailed as error:
            log.error("question not answered", what=what, shard=shard, why=str(error))  # noqa: TRY400  # the reason says it all
            raise refusal_of(error) from error

    async def _answer(self, shard: OwnedShard, what: str, data: dict[str, Any]) -> dict[str, Any]:
        match what:
            case "claim":
                return {"key": self._directory.claim(data["name"])}
            case "offer":
                self._directory.offer(data["name"], data["key"])
                return {}
            case "describe":
                return await self._sessions.describe(data["key"], shard)
            case "messages":
                return await self._sessions.messages(data["key"], shard, data["after"], data["limit"])
            case "delete":
                await self._sessions.delete(data["key"], shard)
                return {}
            case _:
                raise ValueError(f"a worker cannot be asked for {what!r}")

    def _owned(self, number: int) -> OwnedShard:
        shard = self._table.open.get(number)
        if shard is None and number in self._table.unusable:
            raise Refusal(RefusalCode.STORE_FAILED, STORE_FAILED_WORDS)
        if shard is None:
            raise Refusal(RefusalCode.NOT_OWNER, f"Shard {number} is not open here.")
        return shard
