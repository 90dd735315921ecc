"""The parts of a worker, put together: store, sessions, tools, models, peers, ingress."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

import structlog

from hermes_actors.background import Background
from hermes_actors.config.model import Config, from_plain
from hermes_actors.home import Home
from hermes_actors.operations import plain
from hermes_actors.operations import workers as requests
from hermes_actors.operations.results import DONE
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.messages import (
    Assign,
    Configure,
    Cut,
    Drain,
    Listen,
    NoTurnRuns,
    Query,
    QueryResponse,
    Ready,
    Reconfigure,
    RestartWanted,
    Seal,
    SucceededOnFallback,
)
from hermes_actors.wire.ownership import owner_mark
from hermes_actors.wire.sharding import shard_of
from workers.conversations import follow_ups
from workers.duties import Duties
from workers.ingress.http.server import HttpIngress
from workers.models import make_chain
from workers.models.chain import ModelChain
from workers.routing.conversations import ConversationIndex
from workers.routing.local import LocalShards
from workers.routing.messages import DescribeSession, Hello
from workers.routing.peer_server import PeerServer
from workers.routing.registry import RemoteRegistry
from workers.routing.requests import Requests
from workers.routing.router import Router
from workers.routing.shards import ShardFiles, ShardTable
from workers.runtimes.runtime import Runtime
from workers.session_keys import is_bare
from workers.sessions.admission import Admission
from workers.sessions.agent_config import AgentConfig
from workers.sessions.command_run import stop_turn
from workers.sessions.feed import TurnFeed
from workers.sessions.residents import Residents
from workers.sessions.running import running_turns
from workers.sessions.session import Session
from workers.store.journal import Journal
from workers.tools.servers import ToolServers, UnknownServer
from workers.turns import Ended, Refusal, Submission

log = structlog.get_logger(__name__)

HEARTBEATS_PER_INTERVAL = 2  # so that one that is late is not one that is missing
INGRESS_CLOSE_S = 2.0  # for answers that are ready to leave


class Worker:
    """The parts of a worker, from its configuration to its end."""

    def __init__(
        self,
        configure: Configure,
        link: FrameLink,
        requests: Requests,
        listeners: dict[int, socket.socket],
        runtime: Runtime,
    ) -> None:
        config, environment = from_plain(configure.settings.config), configure.settings.environment
        self._home = home = Home(Path(configure.home))
        self._link = link
        self._listeners = listeners
        self._background = Background()
        self._listening: set[int] = set()

        self._journal = Journal()
        self._table = ShardTable(configure.slot, configure.shards)
        self._tools = ToolServers(
            config.mcp_servers,
            environment,
            owner_mark=owner_mark(configure.home, configure.boot, configure.slot, configure.generation),
            home=home.root,
            logs=home.logs,
        )
        registry = RemoteRegistry(link, requests)
        self._sessions = Residents(
            config.sessions,
            agent_config=agent_config_of(config, environment, runtime),
            registry=registry,
            new_toolbox=self._tools.toolbox,
            on_stateless_end=self._offer,
            on_fell_back=self._fell_back,
            on_drained=lambda drain: self._tell(NoTurnRuns(number=drain)),
        )
        self._shards = ShardFiles(
            self._table,
            self._sessions,
            registry,
            journal=self._journal,
            directory=home.shards,
            durability=config.store.durability,
            report=self._tell,
        )
        self._admission = Admission(
            self._sessions,
            admins=config.api_server.admins,
            on_restart_wanted=lambda key: self._tell(RestartWanted(key=key)),
        )
        self._local = LocalShards(self._table, self._sessions, self._admission, ConversationIndex())
        hello = Hello(boot=configure.boot, slot=configure.slot, generation=configure.generation)
        self._router = Router(self._table, self._local, registry, hello)
        self._peers = PeerServer(home.peer(configure.slot), configure.boot, self._local)
        self._duties = Duties(
            self._sessions,
            self._table,
            self._shards,
            heartbeat_s=config.supervisor.heartbeat_seconds / HEARTBEATS_PER_INTERVAL,
            response_days=config.api_server.response_days,
            auto_resume=configure.auto_resume,
            serving=lambda: self._router.serving,
            live_mcp=lambda: self._tools.live,
            send=self._tell,
        )
        self._ingress = HttpIngress(
            self._router, config=config.api_server, api_keys=configure.settings.api_keys, slot=configure.slot
        )

    # -- life -----------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Everything that does not wait for shards."""
        await self._peers.start()
        await self._ingress.start()
        self._duties.start()

    async def assign(self, assign: Assign) -> None:
        """Take a new shard table; open and recover what is new."""
        self._table.update(assign.owners, {slot: str(self._home.peer(slot)) for slot in assign.up})
        opened = await self._shards.follow_table()
        if not self._router.serving:
            self._router.serving = True
            self._tell(Ready())
            self._duties.ready()
        self._duties.resume(opened)

    async def listen(self, listen: Listen) -> None:
        """Accept on these slots' sockets and no others."""
        wanted = set(listen.slots)
        for slot in self._listening - wanted:
            await self._ingress.unlisten(slot)
        for slot in wanted - self._listening:
            await self._ingress.listen(slot, self._listeners[slot])
        self._listening = wanted

    # -- drain ----------------------------------------------------------------------------------------------------
    def drain(self, order: Drain) -> None:
        """Be ready no more, begin no turn, and tell the supervisor once none runs."""
        self._router.draining = True
        self._sessions.draining.begin(order)

    def drain_over(self) -> None:
        """Serve again, first what waited."""
        self._sessions.draining.over()
        self._router.draining = False
        self._duties.resume(self._table.open.values())

    def seal(self, order: Seal) -> None:
        """Tell what runs; from now on it does not end but by :meth:`cut`."""
        self._tell(self._sessions.seal(order))

    def cut(self, order: Cut) -> None:
        """Interrupt what was sealed."""
        self._sessions.draining.cut(order)

    # -- operators ------------------------------------------------------------------------------------------------
    async def answer(self, query: Query) -> None:
        """Do what the supervisor requests for an operator, and respond."""
        try:
            result = await self._result(requests.read(query.operation, query.arguments))
        except Refusal:
            self._tell(QueryResponse(request=query.request, found=False, data={}))
        else:
            self._tell(QueryResponse(request=query.request, found=True, data=plain.to_plain(result)))

    async def _result(self, request: requests.WorkerRequest) -> Any:
        match request:
            case requests.InspectSession(key=key):
                known = await self._local.ask(shard_of(key, self._table.shards), DescribeSession(key=key))
                rows = [row for row in self._tools.connections() if row["session"] in (key, None)]
                return plain.from_plain(requests.SessionKnown, {**known, "mcp": rows})
            case requests.InspectConnections():
                return plain.from_plain(requests.WorkerConnections, {"connections": self._tools.connections()})
            case requests.RestartConnections(server=server):
                self._background.start(self._restart_server(server))  # it may take longer than an operator waits
                return requests.Count(count=sum(row["server"] == server for row in self._tools.connections()))
            case requests.InspectTurns():
                turns = [{"worker": self._table.slot, **turn} for turn in await running_turns(self._sessions)]
                return plain.from_plain(requests.WorkerTurns, {"turns": turns, "queued": self._sessions.waiting})
            case requests.StopRunning(key=key):
                resident = await self._sessions.present(key)
                return requests.Count(count=int(resident is not None and await stop_turn(resident)))
            case requests.EvictSession(key=key):
                await self._sessions.evict(key)
                return DONE
            case _:
                assert_never(request)

    async def _restart_server(self, name: str) -> None:
        try:
            await self._tools.restart(name)
        except UnknownServer as error:  # a reload took it away since the supervisor looked
            log.warning("server not restarted", why=str(error))

    async def reconfigure(self, order: Reconfigure) -> None:
        """Take over a new configuration; turns that run go on with the one they began with."""
        config = from_plain(order.settings.config)
        self._tools.reconfigure(config.mcp_servers, order.settings.environment)
        before = self._sessions.agent_config
        after = agent_config_of(config, order.settings.environment, before.runtime, before.models)
        self._sessions.reconfigure(config.sessions, after)
        self._admission.reconfigure(config.api_server.admins)
        self._duties.response_days = config.api_server.response_days
        self._ingress.reconfigure(config.api_server, order.settings.api_keys)
        if after.models is not before.models:
            self._background.start(before.models.retire())
        self._tell(QueryResponse(request=order.request, found=True, data={}))

    def restart_actor(self, key: str) -> None:
        """The supervisor decided on a session that fell back to another model."""
        self._sessions.restart_actor(key)

    async def stop(self, reason: str) -> None:
        """Stop in order: new turns are refused, what runs is interrupted; then ingress, actors, MCP, store."""
        self._router.serving = False
        await self._sessions.stop(reason)
        await self._ingress.close(INGRESS_CLOSE_S)
        await self._sessions.close()
        await self._tools.close()
        await self._peers.close()
        self._router.close()
        self._duties.beat()  # what the registry has to know of the last turns
        await self._sessions.agent_config.models.close()
        await self._shards.close()
        await self._journal.close()
        self._duties.stop()
        self._background.cancel()

    # -- what sessions report --------------------------------------------------------------------------------------
    def _offer(self, key: str, asked: Submission, feed: TurnFeed, ended: Ended) -> None:
        """A stateless conversation went on; its follow-up shall find this agent, whichever way it took the reply."""
        if ended.state != "completed" or is_bare(key):
            return
        self._router.offer(key, follow_ups(asked, (ended.text, feed.said), ended.tool_calls))

    def _fell_back(self, session: Session, turn_id: str, provider: str, model: str) -> None:
        shard = session.shard
        self._tell(
            SucceededOnFallback(
                key=session.key,
                shard=shard.number,
                fence=shard.fence,
                turn_id=turn_id,
                provider=provider,
                model=model,
            )
        )

    def _tell(self, message: Any) -> None:
        """Say something to the supervisor; the one who holds the link sees to its loss."""
        with contextlib.suppress(LinkClosed):
            self._link.send(message)


def agent_config_of(
    config: Config, environment: Mapping[str, str], runtime: Runtime, models: ModelChain | None = None
) -> AgentConfig:
    """What agents work with, as a configuration says; with the same models as before, where they are to be the same."""
    return AgentConfig(
        runtime=runtime,
        compaction=config.agent.compaction,
        models=make_chain(config, environment, before=models),
        max_turns=config.agent.max_turns,
        system_prompt=config.agent.system_prompt,
        resume_fresh_s=config.sessions.resume_fresh_seconds,
        stuck_threshold=config.supervisor.stuck_threshold,
    )
