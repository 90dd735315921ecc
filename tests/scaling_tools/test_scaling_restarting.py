from __future__ import annotations

import asyncio
import threading

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from scaling import restarting
from scaling.restarting import Plan, Restarting

BOUND_S = 10.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarting, "LEAD_S", 0.1)


async def test_requests_that_fail_during_a_restart_are_told_by_how() -> None:
    restarts, seen = False, threading.Event()
    answers = iter(["away", "gone", "away"])

    async def turn(request: web.Request) -> web.Response:
        if not restarts:
            return web.Response()
        match next(answers, None):
            case "away":
                return web.Response(status=503)
            case "gone":
                assert request.transport is not None
                request.transport.abort()
            case None:
                seen.set()
        return web.Response()

    def restart() -> None:
        nonlocal restarts
        restarts = True
        assert seen.wait(BOUND_S)

    application = web.Application()
    application.router.add_post("/v1/chat/completions", turn)
    async with TestServer(application) as server:
        plan = Plan(url=str(server.make_url("/v1/chat/completions")), token="key", home="", per_second=100.0)
        async with asyncio.timeout(BOUND_S):
            outcome = await Restarting(plan, restart).run()

    assert (outcome.turned_away, outcome.cut, outcome.refused) == (2, 1, 0)
    assert outcome.answered > 0
    assert outcome.gap_ms > 20  # four requests in a row were not answered, at a distance of ten milliseconds


async def test_connections_that_nobody_accepts_are_told() -> None:
    application = web.Application()

    async def turn(_: web.Request) -> web.Response:
        return web.Response()

    application.router.add_post("/v1/chat/completions", turn)
    server = TestServer(application)
    await server.start_server()
    plan = Plan(url=str(server.make_url("/v1/chat/completions")), token="key", home="", per_second=100.0)
    loop = asyncio.get_running_loop()

    def restart() -> None:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(BOUND_S)

    outcome = await Restarting(plan, restart).run()

    assert outcome.refused > 0
    assert outcome.answered > 0
