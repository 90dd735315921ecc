"""The gateway as an ingress sees it: every session is here or one hop away.

A request whose owner is down waits for the next owner, up to :data:`OWNER_WAIT_S`. However often a turn is handed over
it runs once: it carries its id, and an owner that is asked again attaches to what it knows of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeVar

import structlog

from hermes_actors.wire.messages import Hello
from hermes_actors.wire.sharding import shard_of
from workers.agents.agent import unstored_end
from workers.agents.failures import cut_error
from workers.agents.feed import ListeningTurn, TurnFeed
from workers.agents.session import OwnedShard
from workers.agents.sessions import Sessions
from workers.gateway import Conversation
from workers.routing.directory import Directory, directory_key
from workers.routing.peers import NOT_OWNER, OwnerGone, Peer
from workers.routing.registry import RemoteRegistry
from workers.routing.shards import ShardTable
from workers.turns import Refusal, Submission

log = structlog.get_logger(__name__)

OWNER_WAIT_S = 5.0  # how long a request waits for a shard that has no living owner
OWNER_RETRY_S = 0.1  # an owner may be back without a change of the table that we wait for
RETRY_AFTER_S = 2.0
PLACEMENT_TRIES = 64  # to find a name that falls into a shard of this worker

T = TypeVar("T")


class Router:
    """Implements :class:`workers.gateway.Gateway` on the shard table."""

    def __init__(
        self, table: ShardTable, sessions: Sessions, registry: RemoteRegistry, directory: Directory, hello: Hello
    ) -> None:
        self._table = table
        self._sessions = sessions
        self._registry = registry
        self._directory = directory
        self._hello = hello
        self._peers: dict[str, Peer] = {}
        self._submissions: dict[str, tuple[Submission, bool]] = {}  # of turns at other workers, by turn id
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving = False

    @property
    def ready(self) -> bool:
        return self.serving

    # -- turns ----------------------------------------------------------------------------------------------------
    async def submit(self, submission: Submission, *, stream: bool) -> ListeningTurn:
        turn = ListeningTurn(submission.turn_id)
        await self._submit(submission, turn, stream=stream, again=False)
        return turn

    async def _submit(self, submission: Submission, turn: ListeningTurn, *, stream: bool, again: bool) -> None:
        number = shard_of(submission.key, self._table.shards)

        async def here(shard: OwnedShard, again: bool) -> None:
            feed = await self._sessions.submit(submission, shard, again=again)
            turn.turn_id = feed.turn_id
            turn.on_abandon = lambda: feed.leave(turn.hear)
            feed.listen(turn.hear, stream=stream)

        async def there(peer: Peer, again: bool) -> None:
            turn.resubmit = lambda: self._reattach(submission, turn, stream=stream)
            turn.turn_id = await peer.submit(number, submission, turn, stream=stream, again=again)

        await self._at_owner(number, here, there, again=again)

    def _cut(self, turn: ListeningTurn) -> None:
        """The owner of an accepted turn went away: the next owner knows what became of it."""
        if turn.resubmit is not None:
            task = asyncio.get_running_loop().create_task(turn.resubmit())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reattach(self, submission: Submission, turn: ListeningTurn, *, stream: bool) -> None:
        try:
            await self._submit(submission, turn, stream=stream and not turn.heard, again=True)
        except Refusal as refusal:
            log.warning("turn lost with its worker", session=submission.key, turn=submission.turn_id, why=refusal.why)
            turn.hear(unstored_end(submission.turn_id, "", "interrupted", cut_error("crash")))

    async def submitted(self, number: int, submission: Submission, again: bool) -> TurnFeed:
        """Another worker hands a turn over.

        Raises:
            Refusal: not accepted.
        """
        return await self._sessions.submit(submission, self._owned(number), again=again)

    # -- sessions -------------------------------------------------------------------------------------------------
    async def conversation_key(self, conversation: Conversation) -> str:
        if conversation.idempotency_key is not None:  # a repeated request must meet the first one
            name = f"{conversation.principal}\0{conversation.user}\0{conversation.idempotency_key}"
            return f"conv:{conversation.principal}:{blake2b(name.encode(), digest_size=16).hexdigest()}"
        if conversation.history:
            name = directory_key(conversation)
            known = await self._ask(shard_of(name, self._table.shards), "claim", {"name": name})
            if known["key"] is not None:
                return str(known["key"])
        return self._new_key(conversation.principal)

    def _new_key(self, principal: str) -> str:
        """A new stateless conversation is placed where its first request landed."""
        for _ in range(PLACEMENT_TRIES):
            key = f"conv:{principal}:{uuid.uuid4().hex}"
            if shard_of(key, self._table.shards) in self._table.open:
                break
        return key

    def offer(self, conversation: Conversation, key: str) -> None:
        """Tell who keeps the pointers that the agent of ``key`` now knows this history."""
        name = directory_key(conversation)
        number = shard_of(name, self._table.shards)
        if number in self._table.open:
            self._directory.offer(name, key)
        else:
            task = asyncio.get_running_loop().create_task(self._offer_there(number, name, key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _offer_there(self, number: int, name: str, key: str) -> None:
        try:
            await self._ask(number, "offer", {"name": name, "key": key})
        except Refusal as refusal:  # the follow-up then starts an agent of its own
            log.debug("conversation not offered", why=refusal.why)

    async def list_sessions(
        self, principal: str, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        return await self._registry.page(principal, after, limit)

    async def describe_session(self, key: str) -> dict[str, Any]:
        return await self._ask(shard_of(key, self._table.shards), "describe", {"key": key})

    async def session_messages(self, key: str, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        asked = {"key": key, "after": after, "limit": limit}
        page = await self._ask(shard_of(key, self._table.shards), "messages", asked)
        return page["messages"], page["next"]

    async def delete_session(self, key: str) -> None:
        await self._ask(shard_of(key, self._table.shards), "delete", {"key": key})

    async def asked(self, number: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        """Answer a question about a shard that is owned here.

        Raises:
            Refusal: no such session, or not the owner.
        """
        shard = self._owned(number)
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
                raise Refusal("session_not_found", f"A worker cannot be asked for {what!r}.")

    # -- owners ---------------------------------------------------------------------------------------------------
    def _owned(self, number: int) -> OwnedShard:
        shard = self._table.open.get(number)
        if shard is None:
            raise Refusal(NOT_OWNER, f"Shard {number} is not open here.")
        return shard

    async def _ask(self, number: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        async def here(_shard: OwnedShard, _again: bool) -> dict[str, Any]:
            return await self.asked(number, what, data)

        async def there(peer: Peer, _again: bool) -> dict[str, Any]:
            return await peer.ask(number, what, data)

        return await self._at_owner(number, here, there, again=False)

    async def _at_owner(
        self,
        number: int,
        here: Callable[[OwnedShard, bool], Awaitable[T]],
        there: Callable[[Peer, bool], Awaitable[T]],
        *,
        again: bool,
    ) -> T:
        """Do something where a shard is; where its owner is down or changes, wait for the next one.

        Raises:
            Refusal: ``shard_unavailable`` after :data:`OWNER_WAIT_S`; or what the owner refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + OWNER_WAIT_S
        why = "it is being replaced"
        while True:
            shard = self._table.open.get(number)
            if shard is not None:
                return await here(shard, again)
            peer = self._peer(number)
            if peer is not None:
                try:
                    return await there(peer, again)
                except OwnerGone as error:
                    why, again = str(error), True
            left = deadline - loop.time()
            if left <= 0:
                raise Refusal("shard_unavailable", f"The session's worker does not answer: {why}.", RETRY_AFTER_S)
            await self._table.change(min(left, OWNER_RETRY_S))

    def _peer(self, number: int) -> Peer | None:
        """The link to a shard's owner; None while it is down."""
        owner = self._table.owners.get(number)
        path = None if owner is None or owner[0] == self._table.slot else self._table.peers.get(owner[0])
        if path is None:
            return None
        peer = self._peers.get(path)
        if peer is None:
            peer = self._peers[path] = Peer(path, self._hello, self._cut)
        return peer

    def close(self) -> None:
        """End the links to the other workers."""
        for peer in self._peers.values():
            peer.close()
