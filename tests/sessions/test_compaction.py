"""A conversation that outgrows its model's window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
from fakes.model_failures import failed
from fakes.offers import offer_of
from fakes.sessions import Bench, FakeModel, FakeToolbox, end_of, tool_reply
from fakes.valid_request import problems
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.model import Compaction, SessionsConfig
from workers.models.context import size_of
from workers.models.offer import Offer
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.models.summary import MAX_PIECES, SUMMARISE, in_words, pieces_of
from workers.runtimes.chat.compaction import calls_of, how_many_to_summarise, with_results
from workers.runtimes.chat.past import past_of
from workers.runtimes.runtime import Memory
from workers.sessions.reading import describe
from workers.store.shard import Summary, TurnRow
from workers.tools.toolbox import ToolResult
from workers.turns import Ended, PastTurn, TurnState

KEY = "api:default:a"
KEEP_THREE = Compaction(keep_turns=3)
ANSWER = orjson.dumps({"role": "assistant", "content": "I see."})
ENDED = Ended(
    turn_id="",
    session_id="",
    state="completed",
    text="I see.",
    finish_reason="stop",
    usage={},
    model="m",
    error=None,
    replayed=False,
)
TEXT = st.characters(codec="utf-8")


class Windowed(FakeModel):
    """A model with a window of bytes: it counts a token a byte, and refuses what is larger."""

    def __init__(self, window: int, *, states: bool = True) -> None:
        super().__init__()
        self.window_bytes = window
        self.states = states
        self.summaries = 0
        self.refused = 0
        self.answered = 0  # the size of the last request that was answered
        self.summary = "they counted"
        self.summary_fails = False
        self.summary_gate, self.summarising = asyncio.Event(), asyncio.Event()
        self.summary_gate.set()

    async def window(self, model: str) -> int | None:
        return self.window_bytes if self.states else None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        size = size_of(request)
        if size > self.window_bytes:
            self.refused += 1
            return too_large(size, self.window_bytes)
        if request.system == SUMMARISE:
            self.summaries += 1
            self.summarising.set()
            await self.summary_gate.wait()
            if self.summary_fails:
                return failed(status=503)
            return reply(self.summary, size)
        self.answered = size
        answer = await super().complete(request, on_text)
        return reply(answer.text, size) if isinstance(answer, ModelReply) and not answer.tool_calls else answer


def reply(text: str, tokens: int) -> ModelReply:
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    return ModelReply(text=text, tool_calls=(), finish_reason="stop", usage=usage, model="fake-1", provider="fake")


def too_large(tokens: int, window: int) -> ModelFailure:
    text = "the request is larger than the window"
    return failed(status=400, text=text, code="context_length_exceeded", tokens=tokens, window=window)


class _Many(FakeToolbox):
    async def definitions(self) -> Offer:
        return offer_of([{"type": "function", "function": {"name": "a", "description": "x" * 20_000}}])


class _Verbose(FakeToolbox):
    async def call(self, call: ToolCall) -> ToolResult:
        return ToolResult(text="line\n" * 30_000)


def bench_with(model: FakeModel, compaction: Compaction | None = KEEP_THREE) -> Bench:
    return Bench(SessionsConfig(), compaction=compaction, model=model)


def sent(model: FakeModel) -> list[dict[str, Any]]:
    return model.requests[-1]


async def test_a_long_conversation_goes_on_in_a_small_window_and_its_transcript_keeps_everything() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)

    for n in range(60):
        ended = await bench.talk(f"message {n} " + "word " * 100)
        assert ended.state == "completed", ended

    assert model.summaries > 1
    assert model.refused <= 1  # the first, of a model whose window was not known yet
    assert "the first" in sent(model)[0]["content"]
    assert "they counted" in sent(model)[0]["content"]
    assert "message 59" in sent(model)[-1]["content"]
    assert len(await bench.store.transcript(bench.registry.sessions[KEY])) == 60


async def test_five_thousand_turns_that_an_earlier_release_left_are_answered_in_a_window_of_8192_tokens() -> None:
    model = Windowed(8192)  # of bytes, even
    bench = bench_with(model)
    await bench.talk("the first")
    session_id = bench.registry.sessions[KEY]
    for n in range(5000):
        turn = bench.message(f"message {n} " + "word " * 20)
        bench.store.rows[turn.turn_id] = TurnRow(
            submission=turn, session_id=session_id, state="completed", created_at=0.0, ended=ENDED
        )
        bench.store.messages[turn.turn_id] = [*turn.messages, ANSWER]
    await bench.sessions.evict(KEY)

    states = [(await bench.talk(f"question {n}")).state for n in range(20)]

    assert set(states) == {"completed"}
    assert model.refused <= 2, "of a model that counts three times as many tokens as others, the first requests"
    assert model.summaries <= 2 * MAX_PIECES
    assert "turns     5021 in this conversation" in (await bench.talk("/status")).text


async def test_a_summary_outlives_the_session_in_memory() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)
    for n in range(40):
        await bench.talk(f"message {n} " + "word " * 100)
    before = model.summaries

    await bench.sessions.evict(KEY)
    await bench.talk("and now?")

    assert model.summaries == before
    assert "they counted" in sent(model)[0]["content"]
    assert len(sent(model)) < 40


async def test_status_tells_of_the_summary_and_a_fresh_conversation_has_none() -> None:
    bench = bench_with(Windowed(12_000))
    for n in range(40):
        await bench.talk(f"message {n} " + "word " * 100)

    told = (await bench.talk("/status")).text

    assert "turns     40 in this conversation" in told
    assert "turns are summarised for the model" in told
    described = await describe(bench.sessions, KEY, bench.shard)
    assert described["summary"] is not None
    assert described["summary"]["turns"] > 10

    await bench.talk("/reset")
    assert "summar" not in (await bench.talk("/status")).text


async def test_where_no_summary_comes_the_last_whole_turns_are_sent_and_nothing_is_lost() -> None:
    model = Windowed(12_000)
    model.summary_fails = True
    bench = bench_with(model)

    for n in range(40):
        assert (await bench.talk(f"message {n} " + "word " * 100)).state == "completed"

    assert model.summaries == 1, "a summary that failed is not tried again at once"
    assert sent(model)[0]["role"] == "user"
    assert "message 38" in "".join(str(message["content"]) for message in sent(model))
    resident = await bench.sessions.present(KEY)
    assert resident is not None
    session = resident.session
    assert (session.summary, len(session.past)) == (None, 40)


async def test_a_refusal_that_states_the_window_is_learned_and_the_request_is_made_once_more() -> None:
    model = Windowed(9000, states=False)
    bench = bench_with(model)

    for n in range(30):
        assert (await bench.talk(f"message {n} " + "word " * 100)).state == "completed"

    assert model.refused == 1


async def test_a_tool_result_that_is_too_large_is_shortened_and_the_turn_goes_on() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)
    bench.toolbox_class = _Verbose
    model.script = [tool_reply("mcp__a__read")]

    ended = await bench.talk("read it")

    assert ended.state == "completed"
    result = next(message for message in sent(model) if message["role"] == "tool")
    assert "characters were left out here" in result["content"]
    (turn,) = await bench.store.transcript(bench.registry.sessions[KEY])
    assert any(len(row) > 100_000 for row in turn.rows), "the transcript keeps the whole result"


async def test_a_message_that_was_too_large_drives_no_earlier_turn_out() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)
    await bench.talk("remember the number 7")
    assert (await bench.talk("x" * 30_000)).state == "failed"

    ended = await bench.talk("which number?")

    said = "".join(str(message["content"]) for message in sent(model))
    assert (ended.state, model.summaries) == ("completed", 0)
    assert "remember the number 7" in said
    assert "characters were left out here" in said


class Uncounting(Windowed):
    """Says of a refused request that it has a token more than the window, as vLLM does."""

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        outcome = await super().complete(request, on_text)
        return outcome if isinstance(outcome, ModelReply) else replace(outcome, tokens=self.window_bytes + 1)


async def test_a_result_is_shortened_enough_though_the_model_does_not_say_how_large_it_is() -> None:
    model = Uncounting(12_000)
    bench = bench_with(model)
    bench.toolbox_class = _Verbose
    model.script = [tool_reply("mcp__a__read")]

    ended = await bench.talk("read it")

    assert (ended.state, model.refused) == ("completed", 2), "of a model that counts three times as many as others"


async def test_what_a_person_says_is_never_shortened() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)

    ended = await bench.talk("x" * 20_000)

    assert ended.state == "failed"
    assert model.refused >= 1


async def test_where_the_tools_alone_are_too_large_no_summary_is_made_and_that_is_said() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)
    bench.toolbox_class = _Many

    for n in range(6):
        ended = await bench.talk(f"message {n}")

    assert (ended.state, model.summaries, model.refused) == ("failed", 0, 6)
    assert "tools alone" in str(ended.error)
    assert "/compress" not in str(ended.error)


async def test_without_compaction_turns_are_neither_summarised_nor_left_out() -> None:
    model = Windowed(12_000)
    bench = bench_with(model, compaction=None)

    states = [(await bench.talk(f"message {n} " + "word " * 100)).state for n in range(30)]

    assert model.summaries == 0
    assert "failed" in states


async def test_tokens_of_a_summary_count_to_the_turn_that_needed_it() -> None:
    model = Windowed(12_000)
    bench = bench_with(model)
    tokens = 0
    while not model.summaries:
        assert tokens == model.answered
        tokens = (await bench.talk("word " * 100)).usage["prompt_tokens"]

    assert tokens > model.answered


class _WithAnswer(Windowed):
    """Adds the bound of the answer to the request, as vLLM does."""

    def __init__(self, window: int) -> None:
        super().__init__(window, states=False)
        self.bounds: list[int] = []

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        bound = request.parameters.get("max_tokens", 0)
        size = size_of(request)
        self.bounds.append(bound)
        return (
            too_large(size, self.window_bytes)
            if size + bound > self.window_bytes
            else await super().complete(request, on_text)
        )


async def test_a_bound_for_the_answer_that_is_too_large_is_lowered_and_the_conversation_stays_as_it_is() -> None:
    model = _WithAnswer(12_000)
    bench = bench_with(model)
    for n in range(5):
        await bench.talk(f"message {n} " + "word " * 100)

    ended = await bench.talk("and now?", parameters={"max_tokens": 12_000})

    assert ended.state == "completed"
    assert len(model.bounds) == 5 + 2
    assert 0 < model.bounds[-1] < 12_000
    assert (model.summaries, len(sent(model))) == (0, 11)


async def test_a_summary_that_a_larger_model_wrote_is_shortened_for_a_smaller_one() -> None:
    model = Windowed(10**6)
    model.summary = "they counted and counted " * 200
    bench = bench_with(model)
    for n in range(8):
        await bench.talk(f"message {n}")
    await bench.talk("/compress")
    model.window_bytes, model.summary = 4000, "they counted"

    for n in range(8):
        assert (await bench.talk(f"question {n} " + "word " * 60)).state == "completed"

    assert "they counted" in sent(model)[0]["content"]
    assert len(sent(model)[0]["content"]) < 200


# -- /compress --------------------------------------------------------------------------------------------------------
async def test_compress_summarises_all_but_the_newest_turns_at_once() -> None:
    model = Windowed(10**6)
    bench = bench_with(model)
    for n in range(10):
        await bench.talk(f"message {n}")

    told = await bench.talk("/compress")
    await bench.talk("and now?")

    assert "The first 7 turns of this conversation are summarised now" in told.text
    assert "The newest 3 turns stay as they are" in told.text
    assert [message["role"] for message in sent(model)] == ["user", *["user", "assistant"] * 3, "user"]


async def test_compress_says_where_there_is_nothing_to_do_or_the_model_does_not_answer() -> None:
    model = Windowed(10**6)
    bench = bench_with(model)
    await bench.talk("one")
    assert "nothing to summarise" in (await bench.talk("/compress")).text

    for n in range(6):
        await bench.talk(f"message {n}")
    model.summary_fails = True
    told = await bench.talk("/compress")

    assert (told.state, "nothing changed" in told.text) == ("completed", True)
    assert "turns     7 in" in (await bench.talk("/status")).text


async def test_retry_after_a_summary_sends_the_last_message_again() -> None:
    model = Windowed(10**6)
    bench = bench_with(model)
    for n in range(6):
        await bench.talk(f"message {n}")
    await bench.talk("/compress")

    again = await bench.talk("/retry")

    assert again.text == "re: message 5"
    assert "turns     6 in" in (await bench.talk("/status")).text


async def test_a_summary_that_is_being_written_is_cut_by_a_stop() -> None:
    model = Windowed(10**6)
    bench = bench_with(model)
    for n in range(6):
        await bench.talk(f"message {n}")
    model.summary_gate.clear()
    feed = await bench.send("/compress")
    await model.summarising.wait()

    assert (await bench.talk("/stop")).text.startswith("Stopped")

    ended = await end_of(feed)
    assert (ended.state, bench.store.summaries) == ("cancelled", {})
    assert (await bench.talk("on we go")).state == "completed"


# -- decisions --------------------------------------------------------------------------------------------------------
@given(sizes=st.lists(st.integers(0, 10_000), max_size=30), keep=st.integers(1, 10), room=st.integers(0, 50_000))
def test_the_newest_turns_stay_as_far_as_there_is_room(sizes: list[int], keep: int, room: int) -> None:
    turns = how_many_to_summarise(sizes, keep=keep, room=room)

    kept = sizes[turns:]
    assert len(kept) <= keep
    assert kept or not sizes
    assert len(kept) <= 1 or sum(kept) <= room
    if turns and len(kept) < keep:
        assert sum(sizes[turns - 1 :]) > room


def past(text: str) -> PastTurn:
    rows = (orjson.dumps({"role": "user", "content": text}), orjson.dumps({"role": "assistant", "content": "yes"}))
    return PastTurn(turn_id="t", state="completed", own_fault=False, rows=rows)


@given(
    texts=st.lists(st.text(alphabet=TEXT, max_size=500), max_size=30),
    size=st.integers(64, 4000),
)
def test_pieces_of_a_conversation_are_bounded_and_end_with_its_end(texts: list[str], size: int) -> None:
    pieces = pieces_of([past(text).rows for text in texts], size)

    assert len(pieces) <= MAX_PIECES
    assert all(len(piece.encode()) <= size for piece in pieces)
    assert bool(pieces) == bool(texts)


def test_a_turn_in_words_says_who_said_and_did_what() -> None:
    rows = [
        orjson.dumps({"role": "user", "content": [{"type": "text", "text": "what time is it?"}]}),
        orjson.dumps(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "a", "function": {"name": "mcp__time__now", "arguments": "{}"}}],
            }
        ),
        orjson.dumps({"role": "tool", "tool_call_id": "a", "content": "12:00"}),
        orjson.dumps({"role": "assistant", "content": "Noon."}),
    ]

    assert in_words(rows, max_chars=1000).splitlines() == [
        "Person: what time is it?",
        "Assistant called mcp__time__now with {}",
        "The tool answered: 12:00",
        "Assistant: Noon.",
    ]


# -- tools that a client runs ---------------------------------------------------------------------------------------
LOOKING = orjson.dumps(
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
)
LOOKED = Summary(through="1", turns=1, text="They looked.", made_at=0.0)
SEEN = orjson.dumps({"role": "tool", "tool_call_id": "c", "content": "blue"})


def turn(name: str, *rows: bytes, state: TurnState = "completed") -> PastTurn:
    return PastTurn(turn_id=name, state=state, rows=rows)


def test_a_result_is_summarised_with_its_call() -> None:
    past = [turn("1", LOOKING), turn("2", SEEN, ANSWER)]

    assert [one.rows for one in with_results(past, 1)] == [(LOOKING, SEEN)]
    assert with_results(past, 2) == past


def test_what_the_summary_has_is_not_said_again() -> None:
    memory = cast("Memory", SimpleNamespace(past=[turn("2", SEEN, ANSWER)], summary=LOOKED))

    assert past_of(memory, resumed=False)[1].rows == (ANSWER,)


def test_calls_stay_while_their_results_come() -> None:
    past = [turn("1", ANSWER), turn("2", LOOKING), turn("3", SEEN, state="failed")]

    assert calls_of([SEEN], past) == 1
    assert calls_of([ANSWER], past) == 3


async def test_a_client_may_run_tools_for_longer_than_the_window_is() -> None:
    model = Windowed(30_000)
    bench = bench_with(model)
    look = {"tools": [{"type": "function", "function": {"name": "look"}}]}
    try:
        model.script = [tool_reply("look")]
        ended = await bench.talk("look around", parameters=look)
        for number in range(20):
            model.script = [tool_reply("look")]
            (call,) = ended.tool_calls
            seen = orjson.dumps({"role": "tool", "tool_call_id": call["id"], "content": f"{number} " + "x" * 3000})
            ended = await bench.talk(messages=[seen], parameters=look)
            assert problems(sent(model)) == []
            assert "that is not in this conversation" not in str(sent(model))
    finally:
        await bench.sessions.close()

    assert model.summaries > 0
