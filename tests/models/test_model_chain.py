"""Chains of real clients and real servers: who is asked, how often, with what, and where the line stands after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fakes.model_failures import failed
from fakes.model_server import WAIT_S, Answer, ModelServer, call_tools, hang, refuse, say
from fakes.offers import offer_of
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from workers.models.cause import Cause
from workers.models.chain import ModelChain, ModelLine
from workers.models.chat import ChatCompletions
from workers.models.demo import DemoModel
from workers.models.exchange import Timeouts
from workers.models.log_throttle import PAUSE_S
from workers.models.provider import ModelFailure, ModelReply, ModelRequest

LONG = Timeouts(connect=WAIT_S, first_token=WAIT_S, inter_token=WAIT_S)
SHORT_S = 0.05
HELLO = ModelRequest(messages=[b'{"role":"user","content":"Hello"}'])
MAX_RETRIES = 3
FILTERED = refuse(400, {"error": {"message": "it was filtered", "code": "content_filter"}})  # this very message
LIMITED = refuse(429, headers={"Retry-After": "100"})  # longer than any provider is waited for


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client(ChatCompletions):
    """The real client; it does not sleep between retries."""

    def __init__(self, number: int, base_url: str, timeouts: Timeouts = LONG) -> None:
        self.closed = False
        super().__init__(
            name=f"provider-{number}",
            model=f"model-{number}",
            base_url=base_url,
            key=f"key-of-{number}",
            timeouts=timeouts,
            max_retries=MAX_RETRIES,
            sleep=self._no_sleep,
            draw=lambda: 1.0,
        )

    async def _no_sleep(self, _: float) -> None:
        return

    async def close(self) -> None:
        self.closed = True
        await super().close()


class Trial:
    """A chain over servers of its own, and one line of it."""

    def __init__(self, servers: Sequence[ModelServer]) -> None:
        self.servers = servers
        self.clock = Clock()
        self.texts: list[str] = []
        self.use(LONG)

    def use(self, timeouts: Timeouts) -> None:
        self.clients = [Client(at, server.base_url, timeouts) for at, server in enumerate(self.servers)]
        self.chain = ModelChain(self.clients, clock=self.clock)
        self.line = self.chain.line()

    @property
    def counts(self) -> list[int]:
        return [server.count for server in self.servers]

    async def ask(self, request: ModelRequest = HELLO, *, line: ModelLine | None = None) -> ModelReply | ModelFailure:
        async with asyncio.timeout(WAIT_S):
            heard: list[str] = []
            request = replace(request, take_back=lambda: not heard)
            try:
                return await (line or self.line).complete(request, heard.append)
            finally:
                self.texts += heard

    async def reply(self, request: ModelRequest = HELLO) -> ModelReply:
        outcome = await self.ask(request)
        assert isinstance(outcome, ModelReply), outcome
        return outcome

    async def failure(self, request: ModelRequest = HELLO) -> ModelFailure:
        outcome = await self.ask(request)
        assert isinstance(outcome, ModelFailure), outcome
        return outcome

    async def turn(self, request: ModelRequest = HELLO) -> int:
        """A turn of one request; who answered it."""
        outcome = await self.ask(request)
        self.line.turn_ended(isinstance(outcome, ModelReply))
        return outcome.fallback if isinstance(outcome, ModelReply) else -1


@pytest.fixture
async def trial() -> AsyncIterator[Trial]:
    async with ModelServer() as first, ModelServer() as second, ModelServer() as third:
        made = Trial([first, second, third])
        yield made
        await made.chain.close()


def fails(*servers: ModelServer, status: int = 401, times: int = 10) -> None:
    for server in servers:
        server.script(*[refuse(status)] * times)


# -- within a turn ------------------------------------------------------------------------------------------------


async def test_the_primary_answers_alone_while_it_can(trial: Trial) -> None:
    trial.servers[0].script(refuse(503), say("Hi"))

    reply = await trial.reply()

    assert (reply.text, reply.provider, reply.fallback, trial.line.position) == ("Hi", "provider-0", 0, 0)
    assert trial.counts == [2, 0, 0]


async def test_the_next_provider_gets_the_same_request_with_its_own_key_url_and_model(trial: Trial) -> None:
    fails(*trial.servers[:2])
    tools = offer_of([{"type": "function"}])
    request = ModelRequest(messages=HELLO.messages, tools=tools, parameters={"temperature": 0.5})

    reply = await trial.reply(request)

    assert (reply.provider, reply.fallback) == ("provider-2", 2)
    assert (trial.line.position, trial.line.provider, trial.line.model) == (2, "provider-2", "model-2")
    for at, server in enumerate(trial.servers):
        assert server.last.headers["Authorization"] == f"Bearer key-of-{at}"
        assert f"http://{server.last.headers['Host']}/v1" == server.base_url
        assert server.last.body["model"] == f"model-{at}"
        assert server.last.body["tools"] == [{"type": "function"}]
        assert server.last.body["temperature"] == 0.5
        assert server.last.body["messages"] == trial.servers[0].last.body["messages"]


async def test_tool_results_are_kept_when_a_fallback_goes_on_in_the_middle_of_a_turn(trial: Trial) -> None:
    primary, fallback, _ = trial.servers
    primary.script(call_tools(("read", '{"path": "a"}')), refuse(404))
    fallback.script(call_tools(("read", '{"path": "b"}')), say("both read"))
    messages: list[bytes] = [*HELLO.messages]
    answered_by = []
    while True:
        reply = await trial.reply(ModelRequest(messages=messages))
        answered_by.append(reply.fallback)
        if not reply.tool_calls:
            break
        (call,) = reply.tool_calls
        asked = {"id": call.call_id, "type": "function", "function": {"name": "read", "arguments": call.arguments}}
        messages.append(orjson.dumps({"role": "assistant", "content": None, "tool_calls": [asked]}))
        messages.append(
            orjson.dumps({"role": "tool", "tool_call_id": call.call_id, "content": f"text {len(answered_by)}"})
        )

    assert answered_by == [0, 1, 1]
    told = [[m["content"] for m in got.body["messages"] if m["role"] == "tool"] for got in fallback.requests]
    assert told == [["text 1"], ["text 1", "text 2"]]
    assert trial.counts == [2, 2, 0]


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        *((refuse(status), 1) for status in (401, 402, 403, 404)),
        (refuse(400, {"error": {"message": "no", "code": "model_not_found"}}), 1),
        (refuse(400, {"error": {"message": "The model model-0 is not there"}}), 1),
        (LIMITED, 1),
        (refuse(429), MAX_RETRIES + 1),
        (refuse(503), MAX_RETRIES + 1),
        (Answer(status=0), MAX_RETRIES + 1),
    ],
)
async def test_an_error_that_cannot_change_is_asked_once_and_a_passing_one_as_often_as_configured(
    trial: Trial, answer: Answer, requests: int
) -> None:
    trial.servers[0].script(*[answer] * 10)

    assert (await trial.reply()).fallback == 1
    assert trial.counts == [requests, 1, 0]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_one_provider_finds_wrong_with_the_request_another_may_take(trial: Trial, status: int) -> None:
    fails(trial.servers[0], status=status)

    assert (await trial.reply()).fallback == 1
    assert trial.counts == [1, 1, 0]


async def test_a_message_that_is_refused_for_its_content_is_not_sent_to_another_provider(trial: Trial) -> None:
    trial.servers[0].script(FILTERED)

    failure = await trial.failure()

    assert (failure.provider, failure.cause, failure.earlier) == ("provider-0", Cause.CONTENT, ())
    assert trial.counts == [1, 0, 0]


async def test_a_message_whose_content_a_fallback_refuses_ends_the_chain(trial: Trial) -> None:
    fails(trial.servers[0])
    trial.servers[1].script(FILTERED)

    failure = await trial.failure()

    assert (failure.provider, failure.cause) == ("provider-1", Cause.CONTENT)
    assert trial.counts == [1, 1, 0]


async def test_nobody_answers_a_second_time_after_text_was_delivered(trial: Trial) -> None:
    trial.servers[0].script(say("so far", end="cut"))

    failure = await trial.failure()

    assert (failure.kind, failure.delivered, "".join(trial.texts)) == ("cut", True, "so far")
    assert trial.counts == [1, 0, 0]


async def test_the_next_provider_answers_where_nobody_heard_the_text_of_a_broken_answer(trial: Trial) -> None:
    trial.servers[0].script(*[say("so far", end="cut")] * (MAX_RETRIES + 1))

    async with asyncio.timeout(WAIT_S):
        outcome = await trial.line.complete(HELLO, lambda _: None)

    assert isinstance(outcome, ModelReply)
    assert (outcome.text, outcome.fallback) == ("pong", 1)
    assert trial.counts == [MAX_RETRIES + 1, 1, 0]


async def test_a_silent_provider_is_asked_once_then_the_next_one_is(trial: Trial) -> None:
    trial.use(Timeouts(connect=WAIT_S, first_token=SHORT_S, inter_token=WAIT_S))
    trial.servers[0].script(*[hang()] * 10)

    assert (await trial.reply()).fallback == 1
    assert trial.counts == [1, 1, 0]


async def test_the_last_provider_is_asked_with_all_its_patience(trial: Trial) -> None:
    fails(*trial.servers[:2])
    trial.servers[2].script(*[refuse(503, headers={"Retry-After": "6"})] * 10)

    assert (await trial.failure()).attempts == 2


async def test_a_failed_chain_names_every_provider_it_tried(trial: Trial) -> None:
    trial.servers[0].script(refuse(401, {"error": {"message": "bad key"}}))
    trial.servers[1].script(refuse(404, {"error": {"message": "no route"}}))
    trial.servers[2].script(*[refuse(503)] * 4)

    failure = await trial.failure()

    tried = [(one.provider, one.model, one.status, one.attempts) for one in (*failure.earlier, failure)]
    assert tried == [
        ("provider-0", "model-0", 401, 1),
        ("provider-1", "model-1", 404, 1),
        ("provider-2", "model-2", 503, 4),
    ]
    assert [one.text for one in failure.earlier] == ["bad key", "no route"]


async def test_a_failure_later_in_the_turn_still_names_who_failed_before_and_the_next_turn_forgets(
    trial: Trial,
) -> None:
    fails(trial.servers[0], times=1)
    fails(trial.servers[2])
    await trial.reply()
    fails(trial.servers[1], times=1)

    failure = await trial.failure()

    assert [one.provider for one in failure.earlier] == ["provider-0", "provider-1"]
    trial.line.turn_ended(False)
    trial.servers[0].script(FILTERED)
    assert (await trial.failure()).earlier == ()


async def test_a_model_that_a_session_chose_is_asked_of_the_primary_only(trial: Trial) -> None:
    fails(trial.servers[0])

    reply = await trial.reply(replace(HELLO, model="chosen"))

    assert reply.fallback == 1
    assert [server.last.body["model"] for server in trial.servers[:2]] == ["chosen", "model-1"]


async def test_cancelling_ends_the_request_and_asks_nobody_else(trial: Trial) -> None:
    trial.servers[0].script(hang())
    asked = asyncio.create_task(trial.ask())
    await trial.servers[0].until(lambda: trial.servers[0].in_flight == 1)

    asked.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asked
    await trial.servers[0].until(lambda: trial.servers[0].in_flight == 0)
    assert trial.counts == [1, 0, 0]


# -- from turn to turn --------------------------------------------------------------------------------------------


async def test_a_line_stays_on_the_fallback_after_a_turn_that_succeeded(trial: Trial) -> None:
    fails(trial.servers[0], times=1)

    assert [await trial.turn() for _ in range(3)] == [1, 1, 1]
    assert trial.counts == [1, 3, 0]


async def test_a_line_is_back_at_the_primary_after_a_turn_that_failed(trial: Trial) -> None:
    fails(trial.servers[0], times=1)
    assert await trial.turn() == 1
    fails(*trial.servers[1:])

    assert await trial.turn() == -1
    assert trial.line.position == 0
    assert await trial.turn() == 0


async def test_a_new_line_begins_at_the_primary(trial: Trial) -> None:
    fails(trial.servers[0], times=1)
    assert await trial.turn() == 1

    trial.line = trial.chain.line()

    assert await trial.turn() == 0


async def test_each_session_has_a_place_of_its_own(trial: Trial) -> None:
    fails(trial.servers[0], times=1)
    other = trial.chain.line()
    assert await trial.turn() == 1

    outcome = await trial.ask(line=other)

    assert isinstance(outcome, ModelReply)
    assert outcome.fallback == 0


async def test_an_outage_is_logged_at_once_and_then_once_a_minute_however_many_turns_meet_it(trial: Trial) -> None:
    fails(trial.servers[0], times=12)

    with capture_logs() as logged:
        for _ in range(5):
            trial.line = trial.chain.line()
            assert await trial.turn() == 1
        trial.clock.now += PAUSE_S
        trial.line = trial.chain.line()
        await trial.turn()

    assert [(line["event"], line["failed"], line["times"]) for line in logged] == [
        ("asking the next provider", "provider-0", 1),
        ("asking the next provider", "provider-0", 5),
    ]


# -- closed until -------------------------------------------------------------------------------------------------


async def test_turns_before_a_provider_is_back_go_straight_to_the_next_and_those_after_do_not(trial: Trial) -> None:
    trial.servers[0].script(LIMITED)
    assert await trial.turn() == 1
    for seconds, answered_by, counts in ((99.0, 1, [1, 2, 0]), (2.0, 0, [2, 2, 0])):
        trial.clock.now += seconds
        trial.line = trial.chain.line()

        assert await trial.turn() == answered_by
        assert trial.counts == counts


async def test_a_reset_of_the_rate_limit_closes_a_provider_too(trial: Trial) -> None:
    window = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    trial.servers[0].script(refuse(429, headers=window))
    assert await trial.turn() == 1
    trial.clock.now += 350

    assert await trial.turn() == 1
    assert trial.counts == [1, 2, 0]


async def test_a_fallback_that_is_closed_is_passed_over(trial: Trial) -> None:
    fails(trial.servers[0], times=2)
    trial.servers[1].script(LIMITED)
    assert await trial.turn() == 2
    trial.line = trial.chain.line()

    assert await trial.turn() == 2
    assert trial.counts == [2, 1, 2]


async def test_the_primary_is_asked_anyhow_if_every_provider_is_closed_and_is_open_once_it_answers(
    trial: Trial,
) -> None:
    for server in trial.servers:
        server.script(LIMITED)
    assert [await trial.turn() for _ in range(3)] == [-1, 0, 0]
    assert trial.counts == [3, 1, 1]


async def test_a_provider_that_answers_is_open_whatever_it_said(trial: Trial) -> None:
    trial.servers[0].script(refuse(429, headers={"Retry-After": "1000"}))
    trial.servers[1].script(LIMITED)
    trial.servers[2].script(LIMITED)
    assert [await trial.turn() for _ in range(2)] == [-1, 0]
    trial.clock.now += 500

    assert await trial.turn() == 0


async def test_a_provider_that_closes_while_another_is_asked_is_passed_over(trial: Trial) -> None:
    primary, fallback, _ = trial.servers
    gate = asyncio.Event()
    primary.script(refuse(401, gate=gate), refuse(401))
    fallback.script(LIMITED)
    asked = asyncio.create_task(trial.ask())
    await primary.until(lambda: primary.in_flight == 1)
    await trial.ask(line=trial.chain.line())

    gate.set()

    outcome = await asked
    assert isinstance(outcome, ModelReply)
    assert outcome.fallback == 2
    assert trial.counts == [2, 1, 2]


async def test_others_are_told_in_the_order_of_the_chain(trial: Trial) -> None:
    fails(trial.servers[0])
    trial.servers[1].script(LIMITED)
    assert await trial.turn() == 2
    fails(trial.servers[2], times=1)
    assert await trial.turn() == -1
    fails(trial.servers[2])

    failure = await trial.failure()

    assert [(one.provider, one.attempts) for one in failure.earlier] == [("provider-0", 1), ("provider-1", 0)]


async def test_a_message_refused_for_its_content_tells_nothing_of_closed_fallbacks(trial: Trial) -> None:
    trial.servers[0].script(refuse(401), FILTERED)
    trial.servers[1].script(LIMITED)
    assert await trial.turn() == 2
    trial.line = trial.chain.line()

    assert (await trial.failure()).earlier == ()


async def test_a_closed_provider_is_told_with_the_time_that_is_left(trial: Trial) -> None:
    trial.servers[0].script(LIMITED)
    await trial.turn()
    trial.line = trial.chain.line()
    trial.clock.now += 20
    fails(*trial.servers[1:])

    failure = await trial.failure()

    told = [(one.provider, one.attempts, one.retry_after_s) for one in (*failure.earlier, failure)]
    assert told == [("provider-0", 0, 80.0), ("provider-1", 1, None), ("provider-2", 1, None)]


async def test_a_provider_has_all_its_retries_if_those_behind_it_are_closed(trial: Trial) -> None:
    trial.servers[0].script(refuse(401), *[refuse(503, headers={"Retry-After": "6"})] * 10)
    trial.servers[1].script(LIMITED)
    trial.servers[2].script(LIMITED)
    assert await trial.turn() == -1

    failure = await trial.failure()

    assert (failure.provider, failure.attempts) == ("provider-0", 2)
    assert [(one.provider, one.attempts) for one in failure.earlier] == [("provider-1", 0), ("provider-2", 0)]


async def test_what_is_closed_for_one_model_is_open_for_another(trial: Trial) -> None:
    trial.servers[0].script(LIMITED)
    chosen = replace(HELLO, model="chosen")
    assert await trial.turn(chosen) == 1
    trial.line = trial.chain.line()

    assert await trial.turn() == 0
    assert await trial.turn(chosen) == 1


async def test_a_fallback_that_is_closed_is_so_for_the_sessions_that_chose_a_model_too(trial: Trial) -> None:
    fails(trial.servers[0])
    trial.servers[1].script(LIMITED)
    assert await trial.turn() == 2
    trial.line = trial.chain.line()

    assert await trial.turn(replace(HELLO, model="chosen")) == 2
    assert trial.counts == [2, 1, 2]


async def test_a_primary_without_fallbacks_is_asked_each_time_whatever_it_said(trial: Trial) -> None:
    server = trial.servers[0]
    trial.line = ModelChain(trial.clients[:1], clock=trial.clock).line()
    server.script(LIMITED, LIMITED)

    assert [await trial.turn() for _ in range(3)] == [-1, -1, 0]


# -- the chain ----------------------------------------------------------------------------------------------------


async def test_closing_a_chain_closes_every_provider(trial: Trial) -> None:
    await trial.chain.close()

    assert [client.closed for client in trial.clients] == [True] * 3


def test_a_chain_needs_a_primary() -> None:
    with pytest.raises(ValueError, match="primary"):
        ModelChain([])


async def test_demo_models_make_a_chain_without_a_network() -> None:
    line = ModelChain([DemoModel(model="one"), DemoModel(model="two")]).line()
    request = ModelRequest(messages=[b'{"role":"user","content":"fail 503 on one"}'])

    reply = await line.complete(request, lambda _: None)

    assert isinstance(reply, ModelReply)
    assert (reply.text, reply.model, reply.fallback) == ("You said: fail 503 on one", "two", 1)


# -- for every sequence of outcomes -------------------------------------------------------------------------------


class Scripted:
    """A provider whose outcomes are drawn."""

    def __init__(self, number: int, draw: Callable[[int], ModelReply | ModelFailure]) -> None:
        self.name, self.model = f"provider-{number}", f"model-{number}"
        self.context_length = None
        self._number = number
        self._draw = draw
        self.asked = 0

    async def window(self, model: str) -> int | None:
        return None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        self.asked += 1
        return self._draw(self._number)

    async def close(self) -> None:
        return


FAILED = st.builds(
    failed,
    kind=st.sampled_from(["status", "connect", "timeout", "malformed", "cut"]),
    provider=st.just("p"),
    model=st.just("m"),
    status=st.sampled_from([None, 400, 401, 404, 413, 429, 500, 503]),
    code=st.sampled_from([None, "content_filter", "insufficient_quota"]),
    retry_after_s=st.none() | st.floats(0, 100),
    attempts=st.just(1),
    delivered=st.booleans(),
)
ANSWERED = st.just(ModelReply(text="Hi", tool_calls=(), finish_reason="stop", usage={}, model="m"))


@given(st.integers(1, 4), st.data())
def test_each_request_has_one_outcome_and_asks_each_provider_at_most_once(providers: int, data: st.DataObject) -> None:
    outcomes: list[tuple[int, Any]] = []

    def draw(number: int) -> ModelReply | ModelFailure:
        outcome = data.draw(ANSWERED | FAILED)
        outcomes.append((number, outcome))
        return outcome

    clock = Clock()
    chain = ModelChain([Scripted(at, draw) for at in range(providers)], clock=clock)
    lines = [chain.line(), chain.line()]

    async def live() -> None:
        for _ in range(data.draw(st.integers(1, 8))):
            line = lines[data.draw(st.integers(0, 1))]
            outcomes.clear()
            outcome = await line.complete(HELLO, lambda _: None)
            asked = [number for number, _ in outcomes]
            assert asked
            assert asked == sorted(set(asked))
            if isinstance(outcome, ModelReply):
                assert outcome.fallback == line.position == asked[-1]
            else:
                assert replace(outcome, earlier=()) == outcomes[-1][1]
                assert len(outcome.earlier) < providers
            if data.draw(st.booleans()):
                line.turn_ended(isinstance(outcome, ModelReply))
                assert line.position == (asked[-1] if isinstance(outcome, ModelReply) else 0)
            clock.now += data.draw(st.floats(0, 60))

    asyncio.run(live())
