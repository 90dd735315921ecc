from __future__ import annotations

import asyncio
import sys
from collections import Counter

from aiohttp import web
from aiohttp.test_utils import TestServer
from scaling.recovery import Plan, Recovery


async def test_each_session_is_asked_after_the_kill_until_it_answers() -> None:
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    asked: Counter[str] = Counter()

    async def turn(request: web.Request) -> web.Response:
        session = request.headers["X-Hermes-Session-Id"]
        asked[session] += 1
        return web.Response(status=503 if session == "slow" and asked[session] in {2, 3} else 200)

    application = web.Application()
    application.router.add_post("/v1/chat/completions", turn)
    async with TestServer(application) as server:
        url = str(server.make_url("/v1/chat/completions"))
        outcome = await Recovery(Plan(url=url, token="key", sessions=["fast", "slow"], kill=victim.pid)).run()

    assert await victim.wait() == -9
    assert asked == {"fast": 2, "slow": 4}
    assert len(outcome.answered_ms) == 2
    assert outcome.refused_connections == 0
