"""A worker's sessions on fakes: a store in memory, a scripted model, tools that record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import orjson
from fakes.shard_store import FakeShardStore

from hermes_actors.config.model import SessionsConfig
from workers.agents.admission import Admission
from workers.agents.agent import Agency, TurnRun
from workers.agents.feed import ListeningTurn, TurnFeed
from workers.agents.session import OwnedShard
from workers.agents.sessions import Sessions
from workers.models.chain import ModelChain
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.tools.toolbox import ToolResult
from workers.turns import Ended, Refusal, Submission, TurnEvent

BOUND_S = 5.0

_numbers = itertools.count(1)


def text_reply(text: str) -> ModelReply:
    return ModelReply(text=text, tool_calls=(), finish_reason="stop", usage={"total_tokens": 1}, model="fake-1")


def tool_reply(*names: str) -> ModelReply:
    calls = tuple(ToolCall(call_id=f"call-{at}", name=name, arguments="{}") for at, name in enumerate(names))
    return ModelReply(text="", tool_calls=calls, finish_reason="tool_calls", usage={}, model="fake-1")


class FakeModel:
    """Answers ``re: <last message>``, or what is scripted; ``gate`` holds the answers back while it is cleared."""

    def __init__(self, name: str = "fake", model: str = "fake-1") -> None:
        self.name, self.model = name, model
        self.asked_for: list[str | None] = []  # the model that each request chose
        self.requests: list[list[dict[str, Any]]] = []
        self.script: list[ModelReply | ModelFailure | BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Condition()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        messages = [orjson.loads(message) for message in request.messages]
        self.requests.append(messages)
        self.asked_for.append(request.model)
        async with self.asked:
            self.asked.notify_all()
        await self.gate.wait()
        reply = self.script.pop(0) if self.script else text_reply(f"re: {messages[-1]['content']}")
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ModelReply) and reply.text:
            on_text(reply.text)
        return reply

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(BOUND_S), self.asked:
            await self.asked.wait_for(lambda: len(self.requests) >= times)

    async def close(self) -> None:
        pass


class FakeToolbox:
    """Tools that answer with their name."""

    notice = None

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: list[str] = []
        self.aborted = 0
        self.called = asyncio.Event()
        self.closed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def definitions(self) -> bytes:
        return b""

    async def call(self, call: ToolCall) -> ToolResult:
        self.calls.append(call.name)
        self.called.set()
        await asyncio.sleep(0)  # a tool is always elsewhere
        await self.gate.wait()
        return ToolResult(text=f"{call.name} said so")

    async def abort(self, grace_s: float) -> None:
        self.aborted += 1

    async def close(self) -> None:
        self.closed.set()


class FakeNames:
    """The registry; ``down`` makes it refuse."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.activations: list[str] = []
        self.renamed = 0
        self.down = False

    async def activate(self, key: str, principal: str, shard: OwnedShard, *, create: bool) -> tuple[str, float]:
        if self.down:
            raise Refusal("shard_unavailable", "The supervisor did not answer.", 1.0)
        self.activations.append(key)
        if key not in self.sessions and not create:
            raise Refusal("session_not_found", f"There is no session {key}.")
        return self.sessions.setdefault(key, f"ses_{len(self.sessions)}"), 0.0

    async def rename(self, key: str, shard: OwnedShard) -> tuple[str, float]:
        if self.down:
            raise Refusal("shard_unavailable", "The supervisor did not answer.", 1.0)
        self.renamed += 1
        self.sessions[key] = f"ses_renamed_{self.renamed}"
        return self.sessions[key], 0.0

    async def forget(self, key: str, shard: OwnedShard) -> None:
        self.sessions.pop(key, None)


class Bench:
    """Sessions and everything around them."""

    def __init__(
        self,
        config: SessionsConfig,
        *,
        max_turns: int = 5,
        names: FakeNames | None = None,
        with_fallback: bool = False,
    ) -> None:
        self.model = FakeModel()
        self.fallback = FakeModel("spare", "fake-2")
        self.fell_back: list[tuple[str, str, str]] = []  # turn id, provider, model
        self.names = names or FakeNames()
        self.store = FakeShardStore()
        self.shard = OwnedShard(number=0, fence=1, store=self.store)
        self.toolboxes: list[FakeToolbox] = []
        self.toolbox_class = FakeToolbox  # of the sessions to come
        self.stateless_ends: list[str] = []
        models = [self.model, self.fallback] if with_fallback else [self.model]
        self.sessions = Sessions(
            config,
            agency=Agency(ModelChain(models), max_turns=max_turns, system_prompt=None),
            names=self.names,
            new_toolbox=self._toolbox,
            on_stateless_end=self._stateless_end,
            on_fell_back=lambda _, *what: self.fell_back.append(what),
        )
        self.admission = Admission(self.sessions)

    def _toolbox(self, key: str) -> FakeToolbox:
        self.toolboxes.append(self.toolbox_class(key))
        return self.toolboxes[-1]

    def _stateless_end(self, key: str, run: TurnRun, ended: Ended) -> None:
        self.stateless_ends.append(key)

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
            "origin": {},
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
