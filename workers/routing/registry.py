"""The session registry as a worker sees it: questions to the supervisor, asked once per activation, never per turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hermes_actors.wire.link import Link, LinkClosed
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Attest,
    Forget,
    ListSessions,
    Opened,
    Reckoned,
    Recorded,
    Recovered,
    Refused,
    Reset,
    Resume,
    SessionPage,
    Succeeded,
)
from hermes_actors.wire.records import CutTurn, Found, LatestTurn
from hermes_actors.wire.refusals import RefusalCode
from workers.routing.requests import Requests
from workers.sessions.marks import Marks
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.registry import SessionRecord
from workers.turns import Refusal

REGISTRY_TIMEOUT_S = 5.0
RECOVERY_TIMEOUT_S = 10.0  # for what a dead owner left: after everything was killed, all shards ask at once
RETRY_AFTER_S = 1.0

_OWN_CODES = {
    RefusalCode.NOT_FOUND: RefusalCode.SESSION_NOT_FOUND,
    RefusalCode.BAD_REQUEST: RefusalCode.BAD_REQUEST,
    RefusalCode.STORE_FAILED: RefusalCode.STORE_FAILED,
}


class RemoteRegistry:
    """The supervisor's registry, over the worker's link to it."""

    def __init__(self, link: Link, requests: Requests) -> None:
        self._link = link
        self._requests = requests

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> SessionRecord:
        answer = await self._ask(
            Activate(
                request=self._requests.number(),
                key=key,
                principal=principal,
                shard=shard.number,
                fence=shard.fence,
                create=create,
            )
        )
        return _named(answer)

    async def reset(self, key: str, shard: OwnedShard) -> SessionRecord:
        asked = Reset(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence)
        return _named(await self._ask(asked))

    async def resume(self, key: str, shard: OwnedShard) -> SessionRecord:
        asked = Resume(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence)
        return _named(await self._ask(asked))

    async def succeeded(self, key: str, shard: OwnedShard, turn_id: str) -> None:
        answer = await self._ask(
            Succeeded(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence, turn_id=turn_id)
        )
        assert isinstance(answer, Recorded)

    async def opened(self, shard: OwnedShard, found: Found) -> tuple[int, str | None]:
        answer = await self._ask(
            Opened(
                request=self._requests.number(),
                shard=shard.number,
                fence=shard.fence,
                found=found,
            )
        )
        assert isinstance(answer, Reckoned)
        return answer.since or 0, answer.lost

    async def attest(self, shard: OwnedShard, latest: Sequence[LatestTurn]) -> int | None:
        answer = await self._ask(
            Attest(
                request=self._requests.number(),
                shard=shard.number,
                fence=shard.fence,
                latest=list(latest),
            )
        )
        assert isinstance(answer, Reckoned)
        return answer.since

    async def recovered(self, shard: OwnedShard, cut: Sequence[CutTurn], queued: Sequence[str]) -> None:
        answer = await self._ask(
            Recovered(
                request=self._requests.number(),
                shard=shard.number,
                fence=shard.fence,
                cut=list(cut),
                queued=list(queued),
            )
        )
        assert isinstance(answer, Recorded)

    async def forget(self, key: str, shard: OwnedShard) -> None:
        answer = await self._ask(
            Forget(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence)
        )
        assert isinstance(answer, Recorded)

    async def page(self, principal: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a principal's sessions, newest activity first, and the next cursor.

        Raises:
            Refusal: ``shard_unavailable``.
        """
        request = ListSessions(request=self._requests.number(), principal=principal, after=after, limit=limit)
        answer = await self._ask(request)
        assert isinstance(answer, SessionPage)
        return answer.sessions, answer.next

    async def _ask(self, request: Any) -> Any:
        timeout_s = RECOVERY_TIMEOUT_S if isinstance(request, Opened | Attest | Recovered) else REGISTRY_TIMEOUT_S
        try:
            answer = await self._requests.ask(self._link, request, timeout_s=timeout_s)
        except (LinkClosed, TimeoutError) as error:
            why = f"The supervisor did not answer ({str(error) or type(error).__name__})."
            raise Refusal(RefusalCode.SHARD_UNAVAILABLE, why, RETRY_AFTER_S) from error
        if isinstance(answer, Refused):
            code = _OWN_CODES.get(RefusalCode(answer.code))
            if code is not None:
                raise Refusal(code, answer.why)
            raise Refusal(RefusalCode.SHARD_UNAVAILABLE, answer.why, RETRY_AFTER_S)
        return answer


def _named(answer: Any) -> SessionRecord:
    assert isinstance(answer, Activated)
    return SessionRecord(
        session_id=answer.session_id,
        created_at=answer.created_at,
        marks=Marks(resume=answer.resume, fresh=answer.fresh, lost=answer.lost, strikes=answer.strikes),
        suspended=answer.suspended,
        former_id=answer.former_id,
    )
