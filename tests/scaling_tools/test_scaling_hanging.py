from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from scaling import hanging
from scaling.hanging import Hanging, Plan


class Session:
    """A session whose turns hang until /stop."""

    def __init__(self, calls: Path) -> None:
        self._calls = calls
        self._stop = asyncio.Event()
        self.asked: list[str] = []

    async def turn(self, request: web.Request) -> web.Response:
        message = (await request.json())["messages"][-1]["content"]
        self.asked.append(message)
        if message == "/stop":
            self._stop.set()
            return web.Response()
        with self._calls.open("a") as calls:
            calls.write("1 sleep\n")
        await self._stop.wait()
        self._stop.clear()
        return web.Response(status=499)


def plan(url: str, calls: Path, seconds: float) -> Plan:
    return Plan(url=url, token="key", session="s", message="hang", calls=str(calls), hang_s=0.0, seconds=seconds)


async def test_a_turn_that_hangs_is_stopped_and_asked_for_again(tmp_path: Path) -> None:
    session, application = Session(tmp_path / "calls"), web.Application()
    application.router.add_post("/v1/chat/completions", session.turn)
    async with TestServer(application) as server:
        url = str(server.make_url("/v1/chat/completions"))
        outcome = await Hanging(plan(url, tmp_path / "calls", seconds=0.1)).run()

    assert session.asked[:4] == ["hang", "/stop", "hang", "/stop"]
    assert session.asked[-1] == "/stop"
    assert len(outcome.stopped_ms) == session.asked.count("/stop")


async def test_a_tool_that_is_never_called_ends_it(
    model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hanging, "REACTION_S", 0.1)

    with pytest.raises(TimeoutError):
        await Hanging(plan(f"{model_url}/chat/completions", tmp_path / "calls", seconds=1.0)).run()
