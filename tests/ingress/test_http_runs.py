"""Runs: a program starts a turn and leaves, then looks at it, listens to it and stops it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.served_ingress import Reply, Served, serving, sse_events

from hermes_actors.wire.refusals import RefusalCode
from workers.turns import (
    Delta,
    Ended,
    GatewayDraining,
    Reasoning,
    Refusal,
    ToolProgress,
    TurnEvent,
    TurnState,
    TurnView,
)


async def start(served: Served, body: Any = None, **headers: str) -> Reply:
    raw = orjson.dumps({"input": "hi"} if body is None else body)
    return await served.ask("POST", "/v1/runs", raw, **{"Content_Type": "application/json", **headers})


def view(state: TurnState = "running", ended: Ended | None = None, key: str = "api:alice:s") -> TurnView:
    return TurnView(
        turn_id="turn_1",
        key=key,
        stateless=key[:4] == "conv",
        state=state,
        created_at=7.0,
        ended=ended,
        ended_at=None if ended is None else 9.0,
    )


def sent(gateway: FakeGateway) -> list[dict[str, Any]]:
    return [orjson.loads(row) for row in gateway.submission.messages]


async def test_a_run_is_accepted_with_the_id_of_its_turn() -> None:
    async with serving() as served:
        reply = await start(served)

    run_id = served.gateway.submission.turn_id
    assert reply.status == 202
    assert reply.data == {"object": "hermes.run", "run_id": run_id, "status": "started", "session_id": None}
    assert reply.headers["Location"] == f"/v1/runs/{run_id}"
    assert not served.gateway.turns[0].abandoned.is_set(), "it is not left by its caller: it got its answer"


async def test_a_run_without_a_session_outlives_its_caller_by_a_key_of_its_own() -> None:
    async with serving() as served:
        await start(served)
        await start(served, Idempotency_Key="mine")

    first, second = served.gateway.submissions
    assert (first.stateless, first.idempotency_key) == (True, first.turn_id)
    assert first.fingerprint
    assert second.idempotency_key == "mine"


@pytest.mark.parametrize("by", ["body", "header", "both"])
async def test_a_run_in_a_session_sends_it_what_is_new(by: str) -> None:
    body: dict[str, Any] = {"input": "hi", "conversation_history": [{"role": "user", "content": "before"}]}
    headers = {}
    if by != "header":
        body["session_id"] = "s"
    if by != "body":
        headers["X_Hermes_Session_Id"] = "s"
    async with serving() as served:
        reply = await start(served, body, **headers)

    assert (served.gateway.submission.key, served.gateway.submission.stateless) == ("api:alice:s", False)
    assert served.gateway.submission.idempotency_key is None
    assert sent(served.gateway) == [{"role": "user", "content": "hi"}]
    assert reply.data["session_id"] == "s"


async def test_a_run_without_a_session_brings_instructions_history_and_parameters() -> None:
    body = {
        "input": [{"role": "user", "content": "now"}],
        "instructions": "Be brief.",
        "conversation_history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "temperature": 0.5,
    }
    async with serving() as served:
        await start(served, body)

    assert [message["content"] for message in sent(served.gateway)] == ["Be brief.", "a", "b", "now"]
    assert served.gateway.submission.parameters == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"input": "x", "instructions": 7}, "instructions"),
        ({"input": "x", "conversation_history": "y"}, "conversation_history"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "session_id": ""}, "session_id"),
        ({"input": "x", "session_id": 7}, "session_id"),
        ({"input": "x", "temperature": "hot"}, "temperature"),
    ],
)
async def test_a_body_that_is_wrong_gets_the_field_it_is_about(body: dict[str, Any], param: str) -> None:
    async with serving() as served:
        reply = await start(served, body)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert served.gateway.submissions == []


async def test_two_sessions_in_one_request_are_refused() -> None:
    async with serving() as served:
        reply = await start(served, {"input": "x", "session_id": "a"}, X_Hermes_Session_Id="b")

    assert (reply.status, reply.error["param"]) == (400, "session_id")


async def test_a_run_that_was_started_before_under_its_key_is_the_same_run() -> None:
    async with serving() as served:
        served.gateway.earlier_turn = "turn_0_earlier"
        reply = await start(served, Idempotency_Key="k")

    assert reply.data["run_id"] == "turn_0_earlier"
    assert reply.headers["Idempotency-Replayed"] == "true"


async def test_a_run_that_is_kept_over_a_drain_says_when_to_look() -> None:
    async with serving() as served:
        served.gateway.parks = True
        reply = await start(served, X_Hermes_When_Draining="park", X_Hermes_Session_Id="s", Idempotency_Key="k")

    assert (reply.status, reply.headers["Retry-After"]) == (202, "8")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (view("queued"), {"status": "queued", "session_id": "s"}),
        (view(key="conv:alice:1"), {"status": "running", "session_id": None}),
        (
            view("completed", completed("done")),
            {
                "status": "completed",
                "output": "done",
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            },
        ),
        (view("failed", failed()), {"status": "failed", "error": {"code": "provider_error"}}),
        (
            view("interrupted", completed("", state="interrupted")),
            {"status": "failed", "error": {"code": "turn_interrupted"}},
        ),
        (
            view("cancelled", completed("", state="cancelled")),
            {"status": "cancelled", "error": {"code": "turn_cancelled"}},
        ),
    ],
)
async def test_a_run_is_shown_as_it_is(shown: TurnView, expected: dict[str, Any]) -> None:
    async with serving() as served:
        served.gateway.views["turn_1"] = shown
        run = (await served.ask("GET", "/v1/runs/turn_1")).data

    if "error" in expected:
        run["error"].pop("message")
    assert run | expected == run
    assert (run["object"], run["run_id"], run["created_at"]) == ("hermes.run", "turn_1", 7.0)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/stop")])
async def test_a_run_that_the_caller_does_not_have_is_not_found(method: str, path: str) -> None:
    async with serving() as served:
        reply = await served.ask(method, f"/v1/runs/turn_9{path}")

    assert (reply.status, reply.error["code"]) == (404, "turn_not_found")


EVENTS: list[tuple[TurnEvent, int, dict[str, Any]]] = [
    (Reasoning(text="hm"), 0, {"event": "reasoning.available", "text": "hm"}),
    (
        ToolProgress(call_id="c", tool="t", status="running"),
        1,
        {"event": "tool.started", "tool": "t", "call_id": "c"},
    ),
    (
        ToolProgress(call_id="c", tool="t", status="failed"),
        3,
        {"event": "tool.completed", "tool": "t", "call_id": "c", "error": True},
    ),
    (Delta(text="hello"), 3, {"event": "message.delta", "delta": "hello"}),
    (
        GatewayDraining(reason="restart_timeout", deadline=9.0, text="soon"),
        4,
        {"event": "gateway.draining", "reason": "restart_timeout", "deadline": 9.0, "text": "soon"},
    ),
    (completed("hello"), 6, {"event": "run.completed", "output": "hello"}),
]


async def test_what_a_run_said_comes_as_events_whose_ids_name_what_the_reader_has_whole() -> None:
    async with serving() as served:
        served.gateway.kept["turn_1"] = tuple(event for event, _, _ in EVENTS)
        reply = await served.ask("GET", "/v1/runs/turn_1/events")

    assert reply.headers["Content-Type"] == "text/event-stream"
    ids = [int(line[4:]) for line in reply.body.decode().splitlines() if line.startswith("id: ")]
    assert ids == [whole for _, whole, _ in EVENTS]
    for at, ((_, data), (_, _, expected)) in enumerate(zip(sse_events(reply.body), EVENTS, strict=True), 1):
        assert data | expected == data
        assert (data["run_id"], data["message"]) == ("turn_1", at)


async def test_a_reader_who_comes_back_says_what_it_has() -> None:
    async with serving() as served:
        served.gateway.kept["turn_1"] = (completed(),)
        await served.ask("GET", "/v1/runs/turn_1/events", Last_Event_ID="3")
        bad = await served.ask("GET", "/v1/runs/turn_1/events", Last_Event_ID="x")

    assert served.gateway.read_after == [3]
    assert (bad.status, bad.error["param"]) == (400, "Last-Event-ID")


async def test_a_run_is_stopped_once_and_one_that_is_over_stays_as_it_is() -> None:
    async with serving() as served:
        served.gateway.views = {"turn_1": view(), "turn_2": view("completed", completed())}
        running = (await served.ask("POST", "/v1/runs/turn_1/stop")).data
        over = (await served.ask("POST", "/v1/runs/turn_2/stop")).data

    assert running == {"run_id": "turn_1", "status": "stopping"}
    assert over == {"run_id": "turn_2", "status": "completed"}


async def test_a_run_that_is_refused_starts_nothing() -> None:
    async with serving() as served:
        served.gateway.refusal = Refusal(RefusalCode.MAILBOX_FULL, "full", 2.0)
        reply = await start(served, {"input": "x", "session_id": "s"})

    assert (reply.status, reply.headers["Retry-After"]) == (429, "2")
