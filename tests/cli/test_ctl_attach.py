"""``hermes-ctl attach``: a turn that runs already, followed in a real process against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from cli.test_ctl_chat import Start, gateway, keyed  # noqa: F401  # a fixture
from fakes.chat_api import KEY, FakeApi, sse
from fakes.commands import ctl, piped

from hermes_actors.cli.attach import shown
from hermes_actors.cli.chat import ChatFailed, Finished, Piece, Tool
from hermes_actors.home import Home

Told = subprocess.CompletedProcess[str]
TURN = "turn_3_00112233445566778899aabb"


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "run_id": TURN, "message": 1, **fields}


EVENTS = [
    event("message.delta", delta="It is "),
    event("tool.started", tool="clock", call_id="c"),
    event("tool.completed", tool="clock", call_id="c", error=True),
    event("gateway.draining", text="soon"),
    event("message.delta", delta="noon."),
    event("run.completed", output="It is noon."),
]


def api(*events: dict[str, Any], running: str | None = TURN, **how: Any) -> FakeApi:
    made = FakeApi([sse(data) for data in events], **how)
    made.running = running
    return made


async def attached(home: Home, *arguments: str) -> Told:
    return await asyncio.to_thread(piped, ctl("attach", *arguments, "--home", str(home.root)))


async def test_a_turn_that_runs_is_shown_to_its_end(keyed: Home, supervisor: Start) -> None:  # noqa: F811  # it is the fixture
    gate = api(*EVENTS)
    async with gateway(gate, supervisor):
        told = await attached(keyed, "a/b")

    assert (told.returncode, told.stdout) == (0, "It is \nnoon.\n")
    assert told.stderr.split() == ["…", "clock", "✗", "clock"]
    ((headers, asked),) = gate.asked
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert asked == {"session": "a/b"}


async def test_with_json_each_event_is_a_line(keyed: Home, supervisor: Start) -> None:  # noqa: F811  # it is the fixture
    async with gateway(api(*EVENTS), supervisor):
        told = await attached(keyed, "work", "--json")

    assert [json.loads(line) for line in told.stdout.splitlines()] == EVENTS
    assert (told.returncode, told.stderr) == (0, "")


async def test_where_no_turn_runs_it_says_so(keyed: Home, supervisor: Start) -> None:  # noqa: F811  # it is the fixture
    async with gateway(api(running=None), supervisor):
        told = await attached(keyed, "work")

    assert (told.returncode, told.stdout) == (1, "")
    assert "no turn of this session runs: work" in told.stderr


async def test_a_session_that_does_not_exist_is_an_error_in_the_words_of_the_api(
    keyed: Home,  # noqa: F811  # it is the fixture
    supervisor: Start,
) -> None:
    error = {"error": {"message": "There is no session.", "code": "session_not_found"}}
    async with gateway(api(status=404, error=error), supervisor):
        told = await attached(keyed, "work")

    assert told.returncode == 1
    assert "There is no session." in told.stderr


@pytest.mark.parametrize(
    "events",
    [
        [event("run.failed", error={"code": "provider_error", "message": "The model failed."})],
        [event("run.cancelled", error={"code": "turn_cancelled", "message": "The model failed."})],
    ],
)
async def test_a_turn_without_an_answer_fails_with_its_words(
    keyed: Home,  # noqa: F811  # it is the fixture
    supervisor: Start,
    events: list[dict[str, Any]],
) -> None:
    async with gateway(api(*events), supervisor):
        told = await attached(keyed, "work")

    assert told.returncode == 1
    assert "The model failed." in told.stderr


async def test_a_connection_that_ends_before_the_turn_is_an_error(keyed: Home, supervisor: Start) -> None:  # noqa: F811  # it is the fixture
    async with gateway(api(EVENTS[0], cut=True), supervisor):
        told = await attached(keyed, "work")

    assert told.returncode == 1
    assert told.stdout == "It is \n"


def test_events_are_shown_as_a_conversation_shows_them() -> None:
    assert [shown(data) for data in EVENTS] == [
        Piece(text="It is "),
        Tool(name="clock", status="running"),
        Tool(name="clock", status="failed"),
        None,
        Piece(text="noon."),
        Finished(reason="stop"),
    ]
    with pytest.raises(ChatFailed):
        shown(event("run.failed"))
