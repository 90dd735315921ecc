"""Runs of a program on a real gateway, over the death of a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from e2e.conftest import on
from e2e.test_deaths import SHARDS, kill_worker, session_on
from fakes.model_server import ModelServer, say
from fakes.running_gateway import KEY, RunningGateway
from fakes.served_ingress import sse_events


async def events(gateway: RunningGateway, run_id: str, after: int = 0) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {KEY}", "Last-Event-ID": str(after)}
    url = f"{gateway.url}/v1/runs/{run_id}/events"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
        return [data for _, data in sse_events(await answer.read())]


async def start(gateway: RunningGateway, **body: str) -> str:
    status, run, _ = await gateway.request("POST", "/v1/runs", body)
    assert status == 202
    return str(run["run_id"])


async def test_runs_outlive_their_caller_and_a_worker(tmp_path: Path, model: ModelServer) -> None:
    config = on(model, supervisor={"workers": 2, "shards": SHARDS})
    async with RunningGateway(tmp_path / "home", config) as gateway:
        name = await session_on(gateway, 0)
        model.script(say("some words then nothing", gate=asyncio.Event()))
        cut = await start(gateway, input="long", session_id=name)
        waiting = await start(gateway, input="next", session_id=name)
        reading = asyncio.ensure_future(events(gateway, cut))
        await model.until(lambda: model.count == 1)
        await kill_worker(gateway, 0)

        assert [event["event"] for event in await reading][-1] == "run.failed"
        heard = await events(gateway, waiting)
        again = await events(gateway, waiting, after=1)
        _, first, _ = await gateway.request("GET", f"/v1/runs/{cut}")
        _, second, _ = await gateway.request("GET", f"/v1/runs/{waiting}")

    assert (first["status"], first["error"]["code"]) == ("failed", "turn_interrupted")
    assert (second["status"], second["output"], second["session_id"]) == ("completed", "pong", name)
    assert [event["event"] for event in heard][-2:] == ["message.delta", "run.completed"]
    assert [event["event"] for event in again] == ["run.completed"]
