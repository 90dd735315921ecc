"""A worker's sessions on fakes: a store in memory, a scripted model, tools that record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from fakes import virtual_time
from fakes.shard_store import FakeShardStore

from hermes_actors.config.model import Compaction, SessionsConfig
from hermes_actors.wire.records import CutTurn, Found, Fresh, LatestTurn, Suspended
from hermes_actors.wire.refusals import RefusalCode
from workers.models.chain import ModelChain
from workers.models.messages import upstream_messages
from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.models.target import ModelTarget
from workers.routing.listening_turn import ListeningTurn
from workers.runtimes.chat.runtime import ChatRuntime
from workers.runtimes.runtime import Runtime
from workers.sessions.admission import Admission
from workers.sessions.agent_config import AgentConfig
from workers.sessions.feed import TurnFeed
from workers.sessions.marks import UNMARKED, Marks
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.registry import SessionRecord, SessionRegistry
from workers.sessions.residents import Residents
from workers.tools.toolbox import Aborted, Prompted, ToolResult
from workers.turns import Ended, Origin, Refusal, Submission, TurnEvent

BOUND_S = 3600.0  # of the tests' own time, which takes none

T = TypeVar("T")

_numbers = itertools.count(1)


async def bounded(wait: Awaitable[T]) -> T:
    """What comes of it, in time."""
    async with asyncio.timeout(BOUND_S):
        return await wait


async def until(holds: Callable[[], bool]) -> None:
    """Return once this holds, in time."""
    async with asyncio.timeout(BOUND_S):
        await virtual_time.until(holds)


def text_reply(text: str) -> ModelReply:
    return ModelReply(text=text, tool_calls=(), finish_reason="stop", usage={"total_tokens": 1}, model="fake-1")


def tool_reply(*names: str) -> ModelReply:
    calls = tuple(ToolCall(call_id=f"call-{at}", name=name, arguments="{}") for at, name in enumerate(names))
    return ModelReply(text="", tool_calls=calls, finish_reason="tool_calls", usage={}, model="fake-1")


class FakeModel:
    """Answers ``re: <last message>``, or what is scripted; ``gate`` holds the answers back while it is cleared."""

    def __init__(self, name: str = "fake", model: str = "fake-1") -> None:
        self.name, self.model = name, model
        self.context_length: int | None = None
        self.asked_for: list[str | None] = []  # the model that each request chose
        self.requests: list[list[dict[str, Any]]] = []
        self.parameters: list[Mapping[str, Any]] = []  # of each request
        self.script: list[ModelReply | ModelFailure | BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Condition()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        target = ModelTarget(provider=self.name, model=request.model or self.model)
        messages = [orjson.loads(message) for message in upstream_messages(request, target)]
        self.requests.append(messages)
        self.asked_for.append(request.model)
        self.parameters.append(request.parameters)
        async with self.asked:
            self.asked.notify_all()
        await self.gate.wait()
        reply = self.script.pop(0) if self.script else text_reply(f"re: {messages[-1]['content']}")
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ModelReply) and reply.text:
            on_text(reply.text)
        return reply

    async def window(self, model: str) -> int | None:
        return None

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(BOUND_S), self.asked:
            await self.asked.wait_for(lambda: len(self.requests) >= times)

    async def close(self) -> None:
        pass


class FakeToolbox:
    """Tools that answer with their name."""

    notice = None
    instructions = ""
    prompts: tuple[str, ...] = ()

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: list[str] = []
        self.aborted = 0
        self.prompted: Prompted | None = None  # the answer to a message that asks for a prompt
        self.fates = Aborted()  # of the servers, when a turn is aborted
        self.called = asyncio.Event()
        self.closed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def definitions(self) -> Offer:
        return NO_TOOLS

    async def prompt(self, text: str) -> Prompted | None:
        return self.prompted

    async def call(self, call: ToolCall) -> ToolResult:
        self.calls.append(call.name)
        self.called.set()
        await asyncio.sleep(0)  # a tool is always elsewhere
        await self.gate.wait()
        return ToolResult(text=f"{call.name} said so")

    async def abort(self, grace_s: float) -> Aborted:
        self.aborted += 1
        return self.fates

    async def close(self) -> None:
        self.closed.set()


class FakeRegistry(SessionRegistry):
    """The registry, with marks that a test puts there; ``down`` makes it refuse."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.former: dict[str, str] = {}  # transcripts that were set aside
        self.marks: dict[str, Marks] = {}
        self.suspensions: dict[str, Suspended] = {}  # of sessions that nobody spoke to since
        self.activations: list[str] = []
        self.successes: list[tuple[str, str]] = []  # key, turn id
        self.recoveries: list[tuple[int, list[tuple[str, str]], list[str]]] = []  # shard, cut, queued
        self.cut_in: dict[str, str | None] = {}  # turn id -> the transcript that it was cut in
        self.found: dict[int, Found] = {}  # the files of shards, by number
        self.lost: dict[int, str] = {}  # why these are to hear that they lost something
        self.since = 0  # the turn after which sessions are to be attested
        self.again: list[int] = []  # the same once more
        self.attested: list[list[LatestTurn]] = []
        self.begun = self.renamed = 0
        self.down = False
        self.asked = asyncio.Event()  # to record a success or a recovery
        self.gate = asyncio.Event()  # holds the answers to that back while it is cleared
        self.gate.set()

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> SessionRecord:
        self._answer()
        if create:
            self.activations.append(key)
        if key not in self.sessions and not create:
            raise Refusal(RefusalCode.SESSION_NOT_FOUND, f"There is no session {key}.")
        if key not in self.sessions:
            self.sessions[key] = f"ses_{self.begun}"  # no id comes again, also after a session was deleted
            self.begun += 1
        return self._named(key)

    async def reset(self, key: str, shard: OwnedShard) -> SessionRecord:
        self._answer()
        self.renamed += 1
        self.sessions[key] = f"ses_renamed_{self.renamed}"
        self.marks.pop(key, None)
        return self._named(key)

    async def resume(self, key: str, shard: OwnedShard) -> SessionRecord:
        self._answer()
        if key not in self.former:
            raise Refusal(RefusalCode.SESSION_NOT_FOUND, "Nothing was set aside.")
        self.sessions[key], self.former[key] = self.former[key], self.sessions[key]
        self.marks.pop(key, None)
        return self._named(key)

    async def succeeded(self, key: str, shard: OwnedShard, turn_id: str) -> None:
        await self._recorded()
        self.successes.append((key, turn_id))
        self.marks.pop(key, None)

    async def opened(self, shard: OwnedShard, found: Found) -> tuple[int, str | None]:
        await self._recorded()
        self.found[shard.number] = found
        return self.since, found.why if found.flaw == "damaged" else self.lost.get(shard.number)

    async def attest(self, shard: OwnedShard, latest: Sequence[LatestTurn]) -> int | None:
        await self._recorded()
        self.attested.append([*latest])
        return self.again.pop() if self.again else None

    async def recovered(self, shard: OwnedShard, cut: Sequence[CutTurn], queued: Sequence[str]) -> None:
        await self._recorded()
        self.recoveries.append((shard.number, [(turn.key, turn.turn_id) for turn in cut], list(queued)))
        self.cut_in |= {turn.turn_id: turn.session_id for turn in cut}

    async def forget(self, key: str, shard: OwnedShard) -> None:
        self.sessions.pop(key, None)

    def suspended(self, key: str, *, reason: str = "crash") -> None:
        """As the next activation finds a session that was suspended."""
        self.former[key] = self.sessions[key]
        self.sessions[key] = f"{self.former[key]}_fresh"
        self.marks[key] = Marks(fresh=Fresh(reason=reason, at=0.0, former_id=self.former[key]))

    def _answer(self) -> None:
        if self.down:
            raise Refusal(RefusalCode.SHARD_UNAVAILABLE, "The supervisor did not answer.", 1.0)

    async def _recorded(self) -> None:
        self.asked.set()
        await self.gate.wait()
        self._answer()

    def _named(self, key: str) -> SessionRecord:
        marks = self.marks.get(key, UNMARKED)
        return SessionRecord(
            session_id=self.sessions[key],
            created_at=0.0,
            marks=marks,
            suspended=self.suspensions.get(key),
            former_id=self.former.get(key),
        )


class Bench:
    """Sessions and everything around them."""

    def __init__(
        self,
        config: SessionsConfig,
        *,
        max_turns: int = 5,
        registry: FakeRegistry | None = None,
        with_fallback: bool = False,
        compaction: Compaction | None = None,
        model: FakeModel | None = None,
        runtime: Runtime | None = None,
        store: FakeShardStore | None = None,
    ) -> None:
        self.model = model or FakeModel()
        self.fallback = FakeModel("spare", "fake-2")
        self.fell_back: list[tuple[str, str, str]] = []  # turn id, provider, model
        self.drained: list[int] = []  # for each time it was told: how many turns ran
        self.restarts_wanted: list[str] = []
        self.registry = registry or FakeRegistry()
        self.store = store or FakeShardStore()
        self.shard = OwnedShard(number=0, fence=1, store=self.store)
        self.toolboxes: list[FakeToolbox] = []
        self.toolbox_class = FakeToolbox  # of the sessions to come
        self.stateless_ends: list[str] = []
        models = [self.model, self.fallback] if with_fallback else [self.model]
        self.sessions = Residents(
            config,
            agent_config=AgentConfig(
                runtime=runtime or ChatRuntime(),
                compaction=compaction,
                models=ModelChain(models),
                max_turns=max_turns,
                system_prompt=None,
                resume_fresh_s=3600.0,
                stuck_threshold=3,
            ),
            registry=self.registry,
            new_toolbox=self._toolbox,
            on_stateless_end=self._stateless_end,
            on_fell_back=lambda _, *what: self.fell_back.append(what),
            on_drained=lambda _: self.drained.append(self.sessions.running),
        )
        self.admission = Admission(self.sessions, admins={"default"}, on_restart_wanted=self.restarts_wanted.append)

    def _toolbox(self, key: str) -> FakeToolbox:
        self.toolboxes.append(self.toolbox_class(key))
        return self.toolboxes[-1]

    def _stateless_end(self, key: str, submission: Submission, feed: TurnFeed, ended: Ended) -> None:
        self.stateless_ends.append(key)

    async def left(self) -> None:
        """What is on disk as queued is left by an earlier owner."""
        rows = await self.store.unfinished()
        self.sessions.backlog.take_over(self.shard.number, (row.submission for row in rows))

    def message(self, text: str = "hi", key: str = "api:default:a", **fields: Any) -> Submission:
        given: dict[str, Any] = {
            "turn_id": f"turn-{next(_numbers)}",
            "key": key,
            "principal": "default",
            "stateless": False,
            "messages": [orjson.dumps({"role": "user", "content": text})],
            "parameters": {},
            "idempotency_key": None,
            "fingerprint": text.encode(),
            "origin": Origin(ingress="http", request_id=""),
        }
        return Submission(**(given | fields))

    async def send(self, submission: Submission | str = "hi", *, again: bool = False, **fields: Any) -> TurnFeed:
        if isinstance(submission, str):
            submission = self.message(submission, **fields)
        async with asyncio.timeout(BOUND_S):
            return await self.admission.submit(submission, self.shard, again=again)

    async def talk(self, submission: Submission | str = "hi", **fields: Any) -> Ended:
        return await end_of(await self.send(submission, **fields))


async def events_of(feed: TurnFeed, *, stream: bool = True) -> list[TurnEvent]:
    """What a listener hears until the end."""
    turn = ListeningTurn(feed.turn_id)
    feed.listen(turn.hear, stream=stream)
    async with asyncio.timeout(BOUND_S):
        return [event async for event in turn]


async def end_of(feed: TurnFeed) -> Ended:
    end = (await events_of(feed, stream=False))[-1]
    assert isinstance(end, Ended)
    return end
