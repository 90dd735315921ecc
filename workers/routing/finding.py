"""A principal's sessions, which are in many shards: their titles, and a search among them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import structlog

from workers.gateway import SearchPage
from workers.routing.messages import ReadTitles, SearchSessions, ShardRequest
from workers.turns import Refusal

log = structlog.get_logger(__name__)

SEARCH_S = 5.0  # after which a search looks at no more sessions
MAX_SEARCHED = 500  # sessions that one search looks at

R = TypeVar("R")


class SessionList(Protocol):
    """The registry's list of sessions."""

    async def page(self, principal: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """See :meth:`workers.routing.registry.RemoteRegistry.page`."""


class SessionFinder:
    """Asks the owners of shards about the sessions that the registry lists.

    Args:
        sessions: the registry's list.
        shard_of: the shard of a session key.
        ask: asks the owner of a shard, once.
    """

    def __init__(
        self,
        sessions: SessionList,
        shard_of: Callable[[str], int],
        ask: Callable[[int, ShardRequest[Any]], Awaitable[Any]],
    ) -> None:
        self._sessions = sessions
        self._shard_of = shard_of
        self._ask = ask

    async def page(self, principal: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """See :meth:`workers.gateway.Gateway.list_sessions`."""
        sessions, cursor = await self._sessions.page(principal, after, limit)
        return await self._entitled(sessions), cursor

    async def search(self, principal: str, text: str, after: str | None, limit: int) -> SearchPage:
        """See :meth:`workers.gateway.Gateway.search_sessions`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SEARCH_S
        found: list[dict[str, Any]] = []
        searched, whole = 0, True
        while True:
            # No more at once than may still be found, so that the cursor is behind the last that was.
            sessions, after = await self._sessions.page(principal, after, min(limit - len(found), MAX_SEARCHED))
            keys, all_of_them = await self._search(sessions, text)
            found += [session for session in sessions if session["key"] in keys]
            searched, whole = searched + len(sessions), whole and all_of_them
            over = searched >= MAX_SEARCHED or loop.time() >= deadline
            if after is None or len(found) >= limit or over:
                return {"sessions": await self._entitled(found), "next": after, "whole": whole}

    async def _search(self, sessions: Iterable[Mapping[str, Any]], text: str) -> tuple[set[str], bool]:
        """The keys of the sessions that have a text, and whether all that they say was searched."""
        transcripts: dict[int, dict[str, str]] = {}
        for session in sessions:
            transcripts.setdefault(self._shard_of(session["key"]), {})[session["key"]] = session["session_id"]
        results = await self._of_each(
            {shard: SearchSessions(transcripts=some, text=text) for shard, some in transcripts.items()}
        )
        keys = {key for result in results for key in result.keys}
        return keys, len(results) == len(transcripts) and all(result.whole for result in results)

    async def _entitled(self, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The sessions with their titles; None where there is none, or its owner does not answer."""
        keys: dict[int, list[str]] = {}
        for session in sessions:
            keys.setdefault(self._shard_of(session["key"]), []).append(session["key"])
        results = await self._of_each({shard: ReadTitles(keys=some) for shard, some in keys.items()})
        titles = {key: title for result in results for key, title in result.items()}
        return [session | {"title": titles.get(session["key"])} for session in sessions]

    async def _of_each(self, requests: Mapping[int, ShardRequest[R]]) -> list[R]:
        """What the owners answer that do."""
        answers = await asyncio.gather(*(self._answer(shard, request) for shard, request in requests.items()))
        return [result for answer in answers for result in answer]

    async def _answer(self, shard: int, request: ShardRequest[R]) -> list[R]:
        """What the owner of a shard answers, if it does."""
        try:
            return [await self._ask(shard, request)]
        except Refusal as refusal:
            log.info("a search or a list goes on without a shard", shard=shard, why=refusal.why)
            return []
