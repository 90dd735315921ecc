"""A drain of the real gateway from its first word to the next start: who goes on, who waits, who is cut.

The drain of the first half is one: it begins with a turn in every state a turn can be in, and is cut short by a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from fakes.model_server import ModelServer, say
from fakes.restarted import Restarted, restartable
from fakes.running_gateway import BOUND_S, KEY, Answer
from kill_matrix.desk import Desk
from kill_matrix.workload import on_slot

from hermes_actors.home import Home
from hermes_actors.wire.failpoints import VARIABLE

CUT, WAITING, FINISHING, STREAMING = (on_slot(0, name) for name in ("cut", "waiting", "finishing", "streaming"))
PARKED, REFUSED = on_slot(0, "parked"), on_slot(0, "refused")
ACTIVATING = on_slot(1, "activating")


@dataclass(kw_only=True)
class Drained:
    """What was seen of one drain."""

    readyz: int  # while it went on
    refused: Answer
    parked: Answer
    finishing: Answer
    stream: str
    cut: Answer  # when it was over
    waiting: Answer
    exit_codes: tuple[int, int]
    sessions: dict[str, dict[str, Any]]  # after the restart
    cut_was_told: list[str]  # system messages of the next request of the session that was cut
    answers: dict[str, Answer]  # of those who came back with their Idempotency-Keys
    ran: dict[str, int]  # how often the model was asked what they had sent
    activating: str  # the reply to the next message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def drained(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> AsyncIterator[Drained]:
    directory = tmp_path_factory.mktemp("drained")
    async with Desk(directory / "desk") as desk:
        environ = {VARIABLE: str(desk.path)}
        async with restartable(directory, model, workers=2, environ=environ) as stage:
            yield await seen(stage, desk)


async def seen(stage: Restarted, desk: Desk) -> Drained:
    gateway, model = stage.gateway, stage.model
    finish, end_stream = asyncio.Event(), asyncio.Event()
    boot = (await gateway.ask("status"))["boot"]

    # A turn in every state.
    model.script(say("finished in time", gate=finish))
    finishing = await begun(model, lambda: gateway.chat("work", FINISHING))
    model.script(say("one two three", gate=end_stream))
    streaming = await begun(model, lambda: streamed(stage, STREAMING))
    cut = await begun(model, lambda: gateway.chat("[[hang]]", CUT))
    held_up = await begun(model, lambda: gateway.chat("[[hang]]", WAITING))
    waiting = asyncio.ensure_future(gateway.chat("my turn", WAITING, Idempotency_Key="waiting"))
    await gateway.until(lambda: is_queued(stage, 1), "a message to wait")
    desk.arm("journal.commit", desk.seen["journal.commit"] + 1)
    activating = asyncio.ensure_future(gateway.chat("am I in?", ACTIVATING))
    await asyncio.wait_for(desk.held, BOUND_S)

    # The drain.
    first = asyncio.ensure_future(gateway.ctl("drain", "--restart", "--timeout", "60"))
    await asyncio.wait_for(desk.passed("drain.heard", 1), BOUND_S)
    readyz = await status_of(f"{gateway.url}/readyz")
    refused = await gateway.chat("hello", REFUSED)
    parked = await gateway.chat("later", PARKED, Idempotency_Key="parked", X_Hermes_When_Draining="park")
    finish.set()
    end_stream.set()
    done = await asyncio.gather(finishing, streaming)

    # Its end.
    second = asyncio.ensure_future(gateway.ctl("drain", "--restart", "--timeout", "0"))
    await asyncio.wait_for(desk.passed("cut.sent", 0), BOUND_S)
    desk.release()
    exit_codes = (await first)[0], (await second)[0]
    told = await asyncio.gather(cut, waiting)
    await asyncio.gather(held_up, activating, return_exceptions=True)
    await gateway.until(lambda: stage.is_up(but=boot), "the gateway to be restarted")

    # The next life.
    answers = {
        "waiting": await gateway.chat("my turn", WAITING, Idempotency_Key="waiting"),
        "parked": await gateway.chat("later", PARKED, Idempotency_Key="parked"),
    }
    sessions = await stage.sessions()
    reply = await gateway.say("and now?", ACTIVATING)
    await gateway.say("go on", CUT)
    return Drained(
        readyz=readyz,
        refused=refused,
        parked=parked,
        finishing=done[0],
        stream=done[1],
        cut=told[0],
        waiting=told[1],
        exit_codes=exit_codes,
        sessions=sessions,
        cut_was_told=stage.requested("system"),
        answers=answers,
        ran={"waiting": asked(model, "my turn"), "parked": asked(model, "later")},
        activating=reply,
    )


async def begun(model: ModelServer, ask: Callable[[], Any]) -> asyncio.Future[Any]:
    """A request whose turn has asked the model."""
    before = model.count
    asking: asyncio.Future[Any] = asyncio.ensure_future(ask())
    await model.until(lambda: model.count > before)
    return asking


async def streamed(stage: Restarted, session: str) -> str:
    """The whole stream of a message."""
    body = {"model": "x", "stream": True, "messages": [{"role": "user", "content": "count"}]}
    headers = {"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": session}
    url = f"{stage.gateway.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as answer:
        return await answer.text()


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status


async def is_queued(stage: Restarted, number: int) -> bool:
    return sum(int(worker["queued"]) for worker in await stage.gateway.workers()) == number


def asked(model: ModelServer, text: str) -> int:
    """How often the model was asked a message."""
    return sum(request.body["messages"][-1].get("content") == text for request in model.requests)


def standing(drained: Drained, session: str) -> tuple[bool, bool, int]:
    line = drained.sessions[session]
    return line["suspended"], line["resume_pending"], line["strikes"]


CLEAR = (False, False, 0)


def test_a_gateway_that_drains_is_not_ready(drained: Drained) -> None:
    assert drained.readyz == 503


def test_a_gateway_that_drains_begins_no_new_turn_and_says_when_to_come_back(drained: Drained) -> None:
    status, body, headers = drained.refused

    assert (status, body["error"]["code"]) == (503, "gateway_draining")
    assert 60 <= int(headers["Retry-After"]) <= 66


def test_a_stream_that_runs_is_told_of_the_drain_and_goes_on(drained: Drained) -> None:
    assert "event: hermes.gateway.draining" in drained.stream
    assert "turn_interrupted" not in drained.stream
    assert drained.stream.rstrip().endswith("data: [DONE]")


def test_a_session_whose_turn_finished_during_the_drain_carries_nothing(drained: Drained) -> None:
    status, body, _ = drained.finishing

    assert (status, body["choices"][0]["message"]["content"]) == (200, "finished in time")
    assert standing(drained, FINISHING) == standing(drained, STREAMING) == CLEAR


def test_what_runs_at_the_deadline_is_cut_marked_and_struck(drained: Drained) -> None:
    status, body, _ = drained.cut

    assert (status, body["error"]["code"]) == (503, "turn_interrupted")
    assert standing(drained, CUT) == (False, True, 1)
    assert drained.sessions[CUT]["resume_reason"] == "restart_timeout"
    assert "the gateway was restarted" in drained.cut_was_told[0]


def test_a_drain_with_cut_sessions_exits_with_3_for_all_who_asked_for_it(drained: Drained) -> None:
    assert drained.exit_codes == (3, 3)


def test_a_message_that_waits_runs_once_after_the_restart(drained: Drained) -> None:
    told_status, told, _ = drained.waiting
    status, body, headers = drained.answers["waiting"]

    assert (told_status, told["error"]["code"]) == (503, "turn_interrupted")
    assert "It is kept" in told["error"]["message"]
    assert (status, body["choices"][0]["message"]["content"]) == (200, "pong")
    assert headers["Idempotency-Replayed"] == "true"
    assert drained.ran["waiting"] == 1
    assert standing(drained, WAITING) == CLEAR, "its success cleared what the cut before it left"


def test_a_parked_message_is_answered_after_the_restart_and_its_session_carries_nothing(drained: Drained) -> None:
    status, body, _ = drained.answers["parked"]

    assert drained.parked[0] == 202
    assert (status, body["choices"][0]["message"]["content"]) == (200, "pong")
    assert drained.ran["parked"] == 1
    assert standing(drained, PARKED) == CLEAR


def test_a_session_that_is_being_activated_is_not_cut(drained: Drained) -> None:
    assert standing(drained, ACTIVATING) == CLEAR
    assert drained.activating == "pong"


# -- what a start finds ----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def stage(tmp_path: Path, model: ModelServer) -> AsyncIterator[Restarted]:
    async with restartable(tmp_path, model) as restarted:
        yield restarted


@pytest.mark.asyncio(loop_scope="module")
async def test_a_kill_of_everything_in_the_middle_of_a_drain_leaves_marks_and_no_drain(stage: Restarted) -> None:
    gateway = stage.gateway
    cut = await begun(stage.model, lambda: gateway.chat("[[hang]]", "a"))
    draining = asyncio.ensure_future(gateway.ctl("drain", "--timeout", "60"))
    await gateway.until(lambda: refuses(stage), "the drain to begin")

    await stage.cut("kill")

    assert (await draining)[0] != 0
    await asyncio.gather(cut, return_exceptions=True)
    session = await stage.session("a")
    assert (session["resume_pending"], session["resume_reason"], session["strikes"]) == (True, "crash", 1)
    assert (await gateway.ask("status"))["phase"] == "serving"
    assert await gateway.say("hello", "b") == "pong"


async def refuses(stage: Restarted) -> bool:
    status, _, _ = await stage.gateway.chat("hello", "b")
    return status == 503


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_that_an_earlier_life_left_keeps_a_start_from_serving(stage: Restarted) -> None:
    await stage.cut_while_running("restart", "a")
    await stage.end("kill")
    home = Home(stage.gateway.home)
    leave_rubbish(home)

    await stage.gateway.start()

    session = await stage.session("a")
    assert session["resume_pending"]
    assert await stage.gateway.say("go on", "a") == "pong"
    assert "the gateway was restarted" in stage.requested("system")[0]
    await stage.cut_while_running("crash", "a")
    status = await stage.gateway.ask("status")
    assert (status["phase"], status["ledger"]["fault"]) == ("serving", None)
    assert stage.ledger()["a"]["count"] == 1


def leave_rubbish(home: Home) -> None:
    """What a gateway, an earlier release, or another one might leave behind."""
    home.lock.write_text("1\n")
    (home.root / "run/supervisor.pid").write_text("1\n")
    for socket in (home.control, home.peer(0), home.peer(7)):
        socket.unlink(missing_ok=True)
        socket.write_text("")
    home.ledger.with_name(f"{home.ledger.name}.lock").write_text("1\n")
    home.ledger.with_name(f"{home.ledger.name}.tmp").write_text('{"version":1,"sess')
    for name in (".drain_request.json", ".clean_shutdown", ".restart_failure_counts", "drain.json", "registry.db.tmp"):
        (home.root / "state" / name).write_text('{"action": "drain", "epoch": 1}')
    (home.shards / "00.db.tmp").write_text("half of a")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b'{"version":1,"sessions":{"api:d', None, id="corrupt"),
        pytest.param(b'{"version":2,"sessions":{}}', "newer", id="newer", marks=pytest.mark.long),
        pytest.param(None, "cannot be read", id="a directory", marks=pytest.mark.long),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_ledger_that_cannot_be_used_is_told_and_keeps_nobody_from_serving(
    stage: Restarted, content: bytes | None, fault: str | None
) -> None:
    await stage.gateway.say("hello", "a")
    await stage.end("kill")
    ledger = Home(stage.gateway.home).ledger
    ledger.unlink(missing_ok=True)
    if content is None:
        ledger.mkdir()
    else:
        ledger.write_bytes(content)

    await stage.gateway.start()

    status = await stage.gateway.ask("status")
    assert status["phase"] == "serving"
    if fault is None:
        assert Path(status["ledger"]["set_aside"]).read_bytes() == content
    else:
        assert fault in status["ledger"]["fault"]
        assert ledger.is_dir() or ledger.read_bytes() == content
    await stage.cut_while_running("crash", "a")
    assert (await stage.session("a"))["strikes"] == 1, "strikes are counted all the same"
    assert await stage.gateway.say("go on", "a") == "pong"
