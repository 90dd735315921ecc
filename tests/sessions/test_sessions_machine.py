"""Whatever happens to sessions: an accepted turn ends once, runs at most once at a time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import pykka
from fakes.model_failures import failed
from fakes.sessions import Bench, text_reply, tool_reply
from fakes.virtual_time import step
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.messages import Cut, Drain, Seal
from hermes_actors.wire.records import CutTurn
from workers.models.messages import upstream_messages
from workers.models.provider import ModelFailure, ModelReply, ModelRequest
from workers.models.target import ModelTarget
from workers.sessions.agent import AgentActor
from workers.sessions.feed import TurnFeed
from workers.store.shard import StoreFailed
from workers.turns import Ended, Parked, Refusal, Submission, TurnEvent

BOUND_S = 5.0
UNTIL_ASKED_TICKS = 30  # of the loop, from a message to the question to the model; far more than a turn needs
NEVER = 1e11  # seconds since the epoch
MAILBOX_LIMIT = 2
SESSIONS = ("api:default:a", "api:default:b", "api:default:c")
CONVERSATIONS = ("conv:default:x", "conv:default:y")
BREAKABLE = (
    "admit running",
    "admit queued",
    "begin",
    "append",
    "finish completed",
    "finish interrupted",
    "find",
    "turn",
    "transcript",
    "delete",
)
COMMANDS = ("/new", "/retry", "/model x", "/stop", "/status")
SLOW = ("admit", "begin", "append", "finish", "find", "turn", "transcript", "delete")
DOWN = failed(status=401, text="no key")
ANSWERS: dict[str, Callable[[], ModelReply | ModelFailure | BaseException]] = {
    "text": lambda: text_reply("fine"),
    "tools": lambda: tool_reply("mcp__a__x", "mcp__a__y"),
    "failure": lambda: DOWN,  # then the fallback answers
    "bug": lambda: ZeroDivisionError("ours"),
    "exit": lambda: SystemExit(1),
    "interrupt": lambda: KeyboardInterrupt(),
}


FAKE = ModelTarget(provider="fake", model="fake-1")


class AskedModel:
    """Holds every call until the test answers it, and notes who was asked what."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[ModelReply | ModelFailure]] = []
        self.begun: defaultdict[str, list[str]] = defaultdict(list)  # by session key: the texts of its turns
        self.running: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.answers_at_once = False

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        messages = [orjson.loads(message) for message in upstream_messages(request, FAKE)]
        self._check_tool_calls(messages)
        text = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        key = text.partition(" ")[0]
        if messages[-1]["role"] == "user":
            self.begun[key].append(text)
        self.running[key] += 1
        if self.running[key] > 1:
            self.wrong.append(f"{key} runs twice at a time")
        try:
            if self.answers_at_once:
                return text_reply("fine")
            answer: asyncio.Future[ModelReply | ModelFailure] = asyncio.get_running_loop().create_future()
            self.waiting.append(answer)
            outcome: Any = await answer
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome  # type: ignore[no-any-return]  # one of ANSWERS
        finally:
            self.running[key] -= 1

    def _check_tool_calls(self, messages: list[dict[str, Any]]) -> None:
        open_calls: list[str] = []
        for message in messages:
            if message["role"] == "tool":
                if message["tool_call_id"] not in open_calls:
                    self.wrong.append(f"a result without a call: {messages}")
                    return
                open_calls.remove(message["tool_call_id"])
            elif open_calls:
                self.wrong.append(f"a call without a result: {messages}")
                return
            open_calls += [call["id"] for call in message.get("tool_calls") or ()]

    def answer(self, kind: str, at: int) -> None:
        self.waiting = [future for future in self.waiting if not future.done()]
        if self.waiting:
            self.waiting.pop(at % len(self.waiting)).set_result(ANSWERS[kind]())  # type: ignore[arg-type]  # raised there


@dataclass(eq=False)
class Sent:
    """A message on its way, then its turn."""

    submission: Submission
    task: asyncio.Task[TurnFeed]
    heard: list[TurnEvent] = field(default_factory=list)
    listens: bool = True

    @property
    def feed(self) -> TurnFeed | None:
        """The turn, once it is accepted."""
        if not self.task.done() or self.task.cancelled() or self.task.exception() is not None:
            return None
        return self.task.result()


class SessionsMachine(RuleBasedStateMachine):
    """Callers, the model, the disk, the supervisor and time, in any order."""

    @initialize(pace=st.sampled_from([0, 1, UNTIL_ASKED_TICKS]))
    def begin(self, pace: int) -> None:
        self.runner = asyncio.Runner()
        self.pace = pace  # ticks of the loop after each step: none finds races, many find long stories
        self.trouble: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.trouble.append(context))
        self.sent: list[Sent] = []
        self.chores: list[asyncio.Task[Any]] = []
        self.stopping = False
        self.ever_broken = False
        self.ever_deleted = False
        self.commanded = False
        self.drains = 0
        self.drain: Literal["", "draining", "sealed", "held"] = ""
        self.told_before = 0
        self.begun_before: set[str] = set()  # texts of the turns that had begun when the drain did
        self.sealed: list[CutTurn] = []
        self.cut: list[CutTurn] = []
        self.run(self._begin())

    async def _begin(self) -> None:
        self.bench = Bench(SessionsConfig(mailbox_limit=MAILBOX_LIMIT, max_resident_per_worker=2), with_fallback=True)
        self.model = AskedModel()
        self.bench.model.complete = self.model.complete  # type: ignore[method-assign]
        self.bench.sessions.backlog.take_over(self.bench.shard.number, [])

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self.runner.run(work)
        self.runner.run(self._tick(self.pace))

    # -- callers --------------------------------------------------------------------------------------------------
    @rule(
        key=st.sampled_from(SESSIONS + CONVERSATIONS),
        name=st.sampled_from([None, None, "k1", "k2"]),
        park=st.booleans(),
    )
    def submit(self, key: str, name: str | None, park: bool) -> None:
        text = f"{key} {name or len(self.sent)}"  # the same name, the same request
        message = self.bench.message(text, key=key, stateless=key in CONVERSATIONS, idempotency_key=name, park=park)
        self.run(self._submit(message, again=False))

    @rule(keys=st.sets(st.sampled_from(SESSIONS + CONVERSATIONS), min_size=1, max_size=3))
    def turns_run(self, keys: set[str]) -> None:
        """The usual case, which single steps seldom come to: these sessions ask the model."""
        for key in sorted(keys):
            self.submit(key, None, park=False)
        self.time_passes(UNTIL_ASKED_TICKS)

    @rule(key=st.sampled_from(SESSIONS + CONVERSATIONS), command=st.sampled_from(COMMANDS))
    def command(self, key: str, command: str) -> None:
        self.commanded = True
        message = self.bench.message(command, key=key, stateless=key in CONVERSATIONS)
        self.run(self._submit(message, again=False))

    @precondition(lambda self: self.sent)
    @rule(at=st.integers(0, 50))
    def hand_over_again(self, at: int) -> None:
        self.run(self._submit(self.sent[at % len(self.sent)].submission, again=True))

    async def _submit(self, message: Submission, *, again: bool) -> None:
        task = asyncio.create_task(self.bench.admission.submit(message, self.bench.shard, again=again))
        sent = Sent(message, task)
        self.sent.append(sent)
        task.add_done_callback(lambda _: self._accepted(sent))

    def _accepted(self, sent: Sent) -> None:
        if sent.feed is not None:
            sent.feed.listen(sent.heard.append, stream=True)

    @precondition(lambda self: any(not sent.task.done() for sent in self.sent))
    @rule(at=st.integers(0, 50))
    def cancel_a_caller(self, at: int) -> None:
        waiting = [sent for sent in self.sent if not sent.task.done()]
        waiting[at % len(waiting)].task.cancel()

    @precondition(lambda self: any(sent.feed and sent.listens for sent in self.sent))
    @rule(at=st.integers(0, 50))
    def leave(self, at: int) -> None:
        listening = [sent for sent in self.sent if sent.feed and sent.listens]
        one = listening[at % len(listening)]
        one.listens = False
        self.run(self._leave(one))

    async def _leave(self, one: Sent) -> None:
        assert one.feed is not None
        one.feed.leave(one.heard.append)

    # -- the world ------------------------------------------------------------------------------------------------
    @rule(kind=st.sampled_from(sorted(ANSWERS)), at=st.integers(0, 5))
    def model_answers(self, kind: str, at: int) -> None:
        self.run(self._answer(kind, at))

    async def _answer(self, kind: str, at: int) -> None:
        self.model.answer(kind, at)

    @rule(operations=st.sets(st.sampled_from(BREAKABLE), max_size=3))
    def disk_fails_at(self, operations: set[str]) -> None:
        self.bench.store.broken = operations
        self.ever_broken |= bool(operations)

    @rule(method=st.sampled_from(SLOW))
    def disk_is_slow(self, method: str) -> None:
        self.bench.store.gates.setdefault(method, asyncio.Event())

    @rule()
    def disk_answers(self) -> None:
        self.run(self._disk_answers())

    async def _disk_answers(self) -> None:
        for gate in self.bench.store.gates.values():
            gate.set()
        self.bench.store.gates.clear()

    @rule(down=st.booleans())
    def supervisor_is_down(self, down: bool) -> None:
        self.bench.registry.down = down

    @rule(ticks=st.integers(1, 12))
    def time_passes(self, ticks: int) -> None:
        self.run(self._tick(ticks))

    async def _tick(self, ticks: int) -> None:
        for _ in range(ticks):
            await step()

    @rule()
    def idle_sessions_sleep(self) -> None:
        self.run(self._passivate())

    async def _passivate(self) -> None:
        self.bench.sessions.passivate()

    @rule(key=st.sampled_from(SESSIONS + CONVERSATIONS))
    def evict(self, key: str) -> None:
        self.run(self._chore(self.bench.sessions.evict(key)))

    @rule(key=st.sampled_from(SESSIONS))
    def delete(self, key: str) -> None:
        self.ever_deleted = True
        self.run(self._chore(self.bench.sessions.delete(key, self.bench.shard)))

    async def _chore(self, work: Coroutine[Any, Any, Any]) -> None:
        self.chores.append(asyncio.create_task(work))

    @precondition(lambda self: self.bench.fell_back)
    @rule(key=st.sampled_from(SESSIONS + CONVERSATIONS))
    def supervisor_restarts_an_actor(self, key: str) -> None:
        self.run(self._restart_actor(key))

    async def _restart_actor(self, key: str) -> None:
        self.bench.sessions.restart_actor(key)

    @precondition(lambda self: not self.stopping and not self.drain)
    @rule(asker=st.sampled_from([None, *SESSIONS]), deadline=st.sampled_from([NEVER, 0.0]))
    def drain_begins(self, asker: str | None, deadline: float) -> None:
        self.drain, self.drains = "draining", self.drains + 1
        self.run(self._drain(Drain(number=1, reason="restart_timeout", then="restart", deadline=deadline, asker=asker)))

    async def _drain(self, order: Drain) -> None:
        runs = [work for one in self.bench.sessions for work in one.mailbox.items.values() if work.begun]
        asked = {text for texts in self.model.begun.values() for text in texts}
        self.begun_before = asked | {orjson.loads(run.submission.messages[-1])["content"] for run in runs}
        self.told_before = len(self.bench.drained)
        self.bench.sessions.draining.begin(order)

    @precondition(lambda self: not self.stopping and not self.drain)
    @rule(keys=st.sets(st.sampled_from(SESSIONS), min_size=1), asker=st.sampled_from([None, *SESSIONS]))
    def drain_finds_turns(self, keys: set[str], asker: str | None) -> None:
        self.turns_run(keys)
        self.drain_begins(asker, NEVER)

    @precondition(lambda self: not self.stopping and self.drain in ("draining", "held"))
    @rule()
    def drain_is_cancelled(self) -> None:
        self.drain = ""
        self.run(self._drain_over())

    async def _drain_over(self) -> None:
        self.bench.sessions.draining.over()

    @precondition(lambda self: not self.stopping and self.drain == "draining")
    @rule()
    def drain_is_sealed(self) -> None:
        self.drain = "sealed"
        self.run(self._seal())

    async def _seal(self) -> None:
        self.sealed = self.bench.sessions.seal(Seal(request=1)).cut

    @precondition(lambda self: not self.stopping and self.drain == "sealed")
    @rule()
    def sealed_turns_are_cut(self) -> None:
        self.drain, self.cut = "held", self.cut + self.sealed
        self.run(self._cut())

    async def _cut(self) -> None:
        self.bench.sessions.draining.cut(Cut(reason="restart_timeout", at=0.0))

    @precondition(lambda self: not self.stopping and len(self.sent) > 12)
    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.run(self._chore(self.bench.sessions.stop("shutdown_timeout")))

    # -- what always holds ----------------------------------------------------------------------------------------
    @invariant()
    def mailboxes_are_bounded(self) -> None:
        for session in self.bench.sessions._resident.values():
            assert len(session.mailbox.items) <= MAILBOX_LIMIT + 1

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert self.model.wrong == []
        assert self.trouble == []

    @invariant()
    def a_drain_is_told_as_over_at_most_once(self) -> None:
        assert len(self.bench.drained) <= self.drains

    @invariant()
    def nothing_begins_in_a_drain(self) -> None:
        if self.drain and not self.commanded:  # what a command sends again has another text
            assert {text for texts in self.model.begun.values() for text in texts} <= self.begun_before

    @invariant()
    def what_is_sealed_does_not_end_before_it_is_cut(self) -> None:
        if self.drain == "sealed" and not self.stopping:
            assert all(self._end_on_disk(turn_id) is None for turn_id in (turn.turn_id for turn in self.sealed))

    def _end_on_disk(self, turn_id: str) -> Ended | None:
        row = self.bench.store.rows.get(turn_id)
        return None if row is None else row.ended

    # -- how it ends ----------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.run(self._settle())
            self._check_turns()
            self.run(self._end())
        finally:
            self.runner.close()
            for ref in pykka.ActorRegistry.get_by_class(AgentActor):
                pykka.ActorRegistry.unregister(ref)
        self.nothing_went_wrong()

    async def _settle(self) -> None:
        """Let all come to its end."""
        self.bench.store.broken = set()
        self.bench.registry.down = False
        await self._disk_answers()
        self.model.answers_at_once = True
        async with asyncio.timeout(BOUND_S):
            if self.drain == "draining" and not self.stopping:
                await self._until(lambda: len(self.bench.drained) > self.told_before)
            if not self.stopping:
                self.bench.sessions.draining.over()
            await self._until(lambda: not self._busy())
            await self.bench.sessions.resume(self.bench.shard)  # what an evicted session left while nothing began
            await self._until(lambda: not self._busy())

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.model.answer("text", 0)
            for key in SESSIONS + CONVERSATIONS:
                self.bench.sessions.restart_actor(key)
            await step()

    def _busy(self) -> bool:
        sessions = self.bench.sessions
        return bool(
            not all(task.done() for task in self.chores)
            or not all(sent.task.done() for sent in self.sent)
            or sessions.pending
            or len(sessions.background)
            or any(session.busy for session in sessions._resident.values())
        )

    def _check_turns(self) -> None:
        for sent in self.sent:
            if not sent.task.cancelled() and (error := sent.task.exception()) is not None:
                assert isinstance(error, Refusal | Parked), error
            if sent.feed is not None:
                ends = [event for event in sent.heard if isinstance(event, Ended)]
                assert sent.feed.ended is not None
                assert len(ends) == 1 if sent.listens else len(ends) <= 1
                assert self.drains or ends in ([], [sent.feed.ended])  # a drain may send callers away early
        for chore in self.chores:
            assert chore.exception() is None or isinstance(chore.exception(), Refusal | StoreFailed)
        rows = self.bench.store.rows
        if not self.ever_broken:
            unfinished = {row.state for row in rows.values() if row.ended is None}
            assert unfinished <= ({"queued", "running"} if self.stopping else set())
            if not self.ever_deleted:
                assert self._cut_sessions() == set(self.cut)
        if not self.ever_deleted and not self.commanded:  # these drop turns, and run one twice
            for key, texts in self.model.begun.items():
                admitted = [row.submission for row in rows.values() if row.submission.key == key]
                order = [orjson.loads(submission.messages[-1])["content"] for submission in admitted]
                assert texts == [text for text in order if text in texts]

    def _cut_sessions(self) -> set[CutTurn]:
        """The sessions' turns that end as cut by a restart."""
        over = [(row.submission, row.ended) for row in self.bench.store.rows.values() if row.ended is not None]
        return {
            CutTurn(turn.key, turn.turn_id, end.session_id)
            for turn, end in over
            if not turn.stateless and end.error is not None and "gateway restarted" in end.error["text"]
        }

    async def _end(self) -> None:
        sessions = self.bench.sessions
        async with asyncio.timeout(BOUND_S):
            if not self.stopping:
                await sessions.stop("shutdown_timeout")
            await sessions.close()
            while pykka.ActorRegistry.get_by_class(AgentActor):  # Pykka has no event for it
                await step()
            while len(asyncio.all_tasks()) > 1:
                await step()
        assert all(toolbox.closed.is_set() for toolbox in self.bench.toolboxes)
        assert sessions.resident == sessions.pending == len(sessions.background) == 0
        assert sessions._ending == {}
        assert self.bench.admission._named == {}


TestSessions = SessionsMachine.TestCase
TestSessions.settings = settings(stateful_step_count=40)
