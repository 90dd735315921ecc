"""Several workers' routing in one event loop: real sockets between them, sessions on fakes, shards that can move."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fakes.sessions import BOUND_S, Bench, FakeRegistry
from fakes.shard_store import FakeShardStore

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.sharding import shard_of
from workers.routing.conversations import ConversationIndex
from workers.routing.listening_turn import ListeningTurn
from workers.routing.local import LocalShards
from workers.routing.messages import Hello
from workers.routing.peer_server import PeerServer
from workers.routing.registry import RemoteRegistry
from workers.routing.requests import Requests
from workers.routing.router import Router
from workers.routing.shards import ShardTable
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.recovery import recover
from workers.turns import Delta, Ended, Submission, TurnEvent

SHARDS = 4
BOOT = "boot"


class NoLink:
    """Nobody is asked."""

    closed = True


class Node:
    """One worker's routing and sessions."""

    def __init__(self, slot: int, path: Path, registry: FakeRegistry, *, owner_wait_s: float) -> None:
        self.slot = slot
        self.path = path
        self.bench = Bench(SessionsConfig(), registry=registry)
        self.table = ShardTable(slot, SHARDS)
        self.index = ConversationIndex()
        self.local = LocalShards(self.table, self.bench.sessions, self.bench.admission, self.index)
        remote = RemoteRegistry(NoLink(), Requests())  # type: ignore[arg-type]  # never sent on
        hello = Hello(boot=BOOT, slot=slot, generation=1)
        self.router = Router(self.table, self.local, remote, hello, owner_wait_s=owner_wait_s)
        self.server = PeerServer(path, BOOT, self.local)

    async def open(self, number: int, fence: int, store: FakeShardStore) -> None:
        """Serve a shard, after settling it."""
        shard = OwnedShard(number=number, fence=fence, store=store)
        await recover(shard, self.bench.sessions.backlog, self.bench.registry)
        self.table.open[number] = shard
        self.table.changed()
        await self.bench.sessions.resume(shard)

    async def die(self) -> None:
        """As if it were killed: its links break, its stores take no more, its turns tell nobody."""
        for shard in self.table.open.values():
            await shard.store.close()
        self.table.open.clear()
        assert self.server._server is not None
        self.server._server.close()
        self.break_links()
        self.router.close()

    def break_links(self) -> None:
        """End the links of its callers, both ends."""
        for caller in list(self.server._callers):
            assert caller.link._transport is not None
            caller.link._transport.abort()

    async def end(self) -> None:
        self.bench.model.gate.set()
        await self.bench.sessions.close()
        await self.server.close()
        self.router.close()


class Cluster:
    """Nodes that share registry and shards; the supervisor's part is played by the test."""

    def __init__(self, directory: Path, slots: int = 2, *, owner_wait_s: float = BOUND_S) -> None:
        self.registry = FakeRegistry()
        self.stores = {number: FakeShardStore() for number in range(SHARDS)}
        self.owners = {number: [number % slots, 1] for number in range(SHARDS)}
        self.nodes: dict[int, Node] = {}
        self._directory = directory
        self._owner_wait_s = owner_wait_s

    async def start(self, slot: int) -> Node:
        """A node, up but without shards."""
        path = self._directory / f"{slot}.sock"
        node = self.nodes[slot] = Node(slot, path, self.registry, owner_wait_s=self._owner_wait_s)
        await node.server.start()
        return node

    async def start_all(self) -> None:
        for slot in sorted({slot for slot, _ in self.owners.values()}):
            await self.start(slot)
        self.tell_table()
        for slot in self.nodes:
            await self.open_shards(slot)

    def tell_table(self) -> None:
        peers = {slot: str(node.path) for slot, node in self.nodes.items()}
        for node in self.nodes.values():
            node.table.update(self.owners, peers)

    async def open_shards(self, slot: int) -> None:
        for number, (owner, fence) in self.owners.items():
            if owner == slot:
                await self.nodes[slot].open(number, fence, self.stores[number])

    async def kill(self, slot: int) -> None:
        """End a node at once; what it committed stays."""
        node = self.nodes.pop(slot)
        for number, (owner, fence) in self.owners.items():
            if owner == slot:
                self.stores[number] = self.stores[number].reopened()
                self.owners[number] = [slot, fence + 1]
        await node.die()
        self.tell_table()
        node.bench.model.gate.set()

    async def replace(self, slot: int) -> Node:
        """A successor of a killed node, serving."""
        node = await self.start(slot)
        self.tell_table()
        await self.open_shards(slot)
        return node

    def key_on(self, slot: int, prefix: str = "api:default:") -> str:
        """A session key whose shard a slot owns."""
        names = (f"{prefix}{number}" for number in range(1000))
        return next(name for name in names if self.owners[shard_of(name, SHARDS)][0] == slot)

    def message(self, text: str, key: str, **fields: object) -> Submission:
        return next(iter(self.nodes.values())).bench.message(text, key, **fields)

    async def end(self) -> None:
        for node in self.nodes.values():
            await node.end()


async def heard(turn: ListeningTurn) -> list[TurnEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in turn]


async def ended(turn: ListeningTurn) -> Ended:
    event = (await heard(turn))[-1]
    assert isinstance(event, Ended)
    return event


def text_of(events: list[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
