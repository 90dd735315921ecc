"""The session registry as a worker sees it: questions to the supervisor, asked once per activation, never per turn."""

from __future__ import annotations

from typing import Any

from hermes_actors.wire.link import Link, LinkClosed
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Forget,
    Forgotten,
    ListSessions,
    Refused,
    Rename,
    SessionPage,
)
from workers.agents.session import OwnedShard
from workers.routing.requests import Requests
from workers.turns import Refusal

REGISTRY_TIMEOUT_S = 5.0
RETRY_AFTER_S = 1.0

_OWN_CODES = {"not_found": "session_not_found", "bad_request": "bad_request"}  # other refusals pass


class RemoteRegistry:
    """The supervisor's registry, over the worker's link to it."""

    def __init__(self, link: Link, requests: Requests) -> None:
        self._link = link
        self._requests = requests

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> tuple[str, float]:
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
        assert isinstance(answer, Activated)
        return answer.session_id, answer.created_at

    async def rename(self, key: str, shard: OwnedShard) -> tuple[str, float]:
        answer = await self._ask(
            Rename(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence)
        )
        assert isinstance(answer, Activated)
        return answer.session_id, answer.created_at

    async def forget(self, key: str, shard: OwnedShard) -> None:
        answer = await self._ask(
            Forget(request=self._requests.number(), key=key, shard=shard.number, fence=shard.fence)
        )
        assert isinstance(answer, Forgotten)

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
        try:
            answer = await self._requests.ask(self._link, request, timeout_s=REGISTRY_TIMEOUT_S)
        except (LinkClosed, TimeoutError) as error:
            why = f"The supervisor did not answer ({error or type(error).__name__})."
            raise Refusal("shard_unavailable", why, RETRY_AFTER_S) from error
        if isinstance(answer, Refused):
            if answer.code in _OWN_CODES:
                raise Refusal(_OWN_CODES[answer.code], answer.why)
            raise Refusal("shard_unavailable", answer.why, RETRY_AFTER_S)
        return answer
