"""How a session recovers from what one provider refuses again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import pytest
from fakes.model_failures import failed
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from workers.models.cause import Cause
from workers.models.chain import ModelChain, ModelLine
from workers.models.healing import HEALED, RESULT_BYTES, Healing, is_refusal
from workers.models.provider import ModelFailure, ModelReply, ModelRequest
from workers.turns import PastTurn

POISON = b"poison"


def row(text: str) -> bytes:
    return orjson.dumps({"role": "user", "content": text})


def passage(name: str, *rows: bytes, failed: bool = True) -> PastTurn:
    return PastTurn(turn_id=name, state="failed" if failed else "completed", rows=rows or (row(name),))


def request(*past: PastTurn) -> ModelRequest:
    return ModelRequest(past=past, messages=[row("hello")])


class Provider:
    """Refuses what holds a word, in words that differ in a number."""

    def __init__(self, name: str = "p", *, refuses: Callable[[bytes], bool] = lambda sent: POISON in sent) -> None:
        self.name, self.model, self.context_length = name, f"model of {name}", None
        self.refusal = failed(status=500, provider=name, model=self.model)
        self.sent: list[bytes] = []
        self._refuses = refuses

    async def window(self, model: str) -> int | None:
        return None

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        self.sent.append(b"".join([*(row for one in request.past for row in one.rows), *request.messages]))
        if self._refuses(self.sent[-1]):
            return replace(self.refusal, text=f"cannot read request {len(self.sent)}", attempts=1)
        return ModelReply(text="fine", tool_calls=(), finish_reason="stop", usage={}, model=self.model)

    async def close(self) -> None:
        return


async def turn(line: ModelLine, *past: PastTurn) -> ModelReply | ModelFailure:
    outcome = await line.complete(request(*past), lambda _: None)
    line.turn_ended(isinstance(outcome, ModelReply))
    return outcome


def chain(*providers: Provider) -> ModelChain:
    return ModelChain(providers)


@pytest.mark.parametrize("cause", [Cause.REQUEST, Cause.DOWN, Cause.CONTENT, Cause.PICTURE, Cause.TOOLS])
async def test_a_turn_that_is_refused_like_the_one_before_is_sent_once_more_without_failed_turns(cause: Cause) -> None:
    provider = Provider()
    provider.refusal = replace(provider.refusal, cause=cause)
    line = chain(provider).line()
    good = passage("good", failed=False)

    first = await line.complete(ModelRequest(past=[good], messages=[row("poison")]), lambda _: None)
    line.turn_ended(False)
    with capture_logs() as logged:
        second = await turn(line, good, passage("poison"))
    third = await turn(line, good, passage("poison"), passage("hello", failed=False))

    assert isinstance(first, ModelFailure)
    assert isinstance(second, ModelReply)
    assert isinstance(third, ModelReply)
    assert (second.remark, third.remark) == (HEALED, "")
    assert [line["event"] for line in logged] == [
        "failed turns left out: the provider refused them twice with the same words"
    ]
    assert len(provider.sent) == 4, "the third turn is not refused first"
    assert b"good" in provider.sent[-1]


async def test_what_recovered_stays_so_for_the_next_actor_of_the_session() -> None:
    provider = Provider()
    models, healing = chain(provider), Healing()
    line = models.line(healing)
    await turn(line, passage("poison"))
    await turn(line, passage("poison"))
    refused = len(provider.sent)

    outcome = await turn(models.line(healing), passage("poison"))

    assert isinstance(outcome, ModelReply)
    assert len(provider.sent) == refused + 1


async def test_only_the_provider_that_refused_them_is_not_sent_them() -> None:
    first, second = Provider("first"), Provider("second", refuses=lambda _: False)
    models, healing = chain(first, second), Healing()
    for _ in range(2):
        await turn(models.line(healing), passage("poison"))

    outcome = await turn(models.line(healing), passage("poison"))

    assert isinstance(outcome, ModelReply)
    assert outcome.fallback == 0
    assert POISON in second.sent[0]


async def test_where_the_failed_turns_are_not_the_cause_nothing_is_left_out() -> None:
    down = True
    provider = Provider(refuses=lambda _: down)
    line = chain(provider).line()
    await turn(line)
    await turn(line, passage("one"))
    await turn(line, passage("one"), passage("two"))
    down = False

    outcome = await turn(line, passage("one"), passage("two"), passage("three"))

    assert isinstance(outcome, ModelReply)
    assert all(name in provider.sent[-1] for name in (b"one", b"two", b"three"))


async def test_a_turn_whose_tools_were_called_is_kept_with_shorter_results() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "x", "arguments": "{}"}}
    acted = passage(
        "acted",
        row("do it"),
        orjson.dumps({"role": "assistant", "content": None, "tool_calls": [call]}),
        orjson.dumps({"role": "tool", "tool_call_id": "c", "content": "done " + "x" * 5000 + "poison" + "x" * 5000}),
    )
    provider = Provider()
    line = chain(provider).line()
    await turn(line, acted)

    outcome = await turn(line, acted)

    assert isinstance(outcome, ModelReply)
    assert b'"tool_calls"' in provider.sent[-1]
    assert b"done" in provider.sent[-1]
    assert len(provider.sent[-1]) < 2 * RESULT_BYTES


@pytest.mark.parametrize(
    "failure",
    [
        failed(status=429),
        failed(status=401),
        failed(status=402),
        failed(status=404),
        failed(status=413),
        failed(status=503),
        failed(status=502),
        failed(kind="connect", status=None),
        failed(kind="timeout", status=None),
        failed(kind="malformed", status=None),
        failed(status=500, delivered=True),
    ],
    ids=lambda failure: f"{failure.cause}-{failure.status}",
)
def test_what_is_not_about_what_was_sent_leaves_no_turn_out(failure: ModelFailure) -> None:
    healing, who = Healing(), ("p", "m")

    assert not is_refusal(failure)
    for _ in range(3):
        assert healing.once_more(who, failure, request(passage("a"))) is None
        healing.turn_ended()


def test_other_words_or_a_turn_between_begin_the_count_again() -> None:
    healing, who, past = Healing(), ("p", "m"), request(passage("a"))
    refusals = [failed(status=400, text=text) for text in ("one", "two")]
    for failure in (*refusals, *refusals):
        assert healing.once_more(who, failure, past) is None
        healing.turn_ended()
    healing.turn_ended()

    assert healing.once_more(who, refusals[1], past) is None
    healing.turn_ended()
    assert healing.once_more(who, refusals[1], past) is not None


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8),
    st.lists(st.sampled_from(["a 1", "a 2", "b"]), max_size=8),
)
def test_only_failed_turns_without_tools_are_ever_left_out(turns: Sequence[tuple[bool, bool]], said: list[str]) -> None:
    healing, who = Healing(), ("p", "m")
    tool = orjson.dumps({"role": "tool", "tool_call_id": "c", "content": "r"})
    past = [
        passage(str(n), row(str(n)), *([tool] if acted else []), failed=has_failed)
        for n, (has_failed, acted) in enumerate(turns)
    ]
    kept = {str(n) for n, (has_failed, acted) in enumerate(turns) if not has_failed or acted}
    for text in said:
        sent = healing.sent(who, request(*past))
        assert kept <= {one.turn_id for one in sent.past}
        smaller = healing.once_more(who, failed(status=400, text=text), sent)
        if smaller is not None:
            assert {one.turn_id for one in smaller.past} == kept
            assert smaller.messages == sent.messages
            healing.healed(who, sent)
            assert {one.turn_id for one in healing.sent(who, request(*past)).past} == kept
        healing.turn_ended()
