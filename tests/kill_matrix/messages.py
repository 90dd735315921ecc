"""Messages and the people who send them: each comes back with its Idempotency-Key until it knows how its turn ended."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

import aiohttp
from fakes.running_gateway import KEY
from kill_matrix import disk
from kill_matrix.stage import Stage, until

ASK_AGAIN_S = 0.05


@dataclass(slots=True, kw_only=True)
class Message:
    """One message, and what its sender was told."""

    name: str  # its id and its Idempotency-Key
    session: str | None  # None: stateless
    text: str
    stream: bool = False
    park: bool = False  # sent at once, also to a gateway that drains
    outcome: str | None = None  # the state its turn ended in, as told
    turn_ids: set[str] = field(default_factory=set)  # as told; a message has one
    faults: list[str] = field(default_factory=list)


class People:
    """Who sends messages to a stage."""

    def __init__(self, stage: Stage, http: aiohttp.ClientSession) -> None:
        self._stage = stage
        self._http = http

    async def deliver(self, message: Message) -> None:
        """Send it, and come back until the outcome that was told is the one on disk."""
        if not message.park:
            await self._stage.serving.wait()
        while message.outcome is None:
            asked_at = time.time()
            told = await self._send(message)
            row = self._row(message)
            if row is not None and row.ended_at is not None and told in ("completed", "interrupted"):
                if told == row.state:
                    message.outcome = told
                elif row.ended_at < asked_at:
                    message.faults.append(f"{message.name} is {row.state}, its sender was told {told}")
                    message.outcome = row.state
            if message.outcome is None:
                await asyncio.sleep(ASK_AGAIN_S)
                await self._stage.serving.wait()

    def _row(self, message: Message) -> disk.TurnOnDisk | None:
        return next((turn for turn in disk.turns(self._stage.home) if turn.message == message.name), None)

    async def _send(self, message: Message) -> str:
        """What the answer says of the turn: an end, or why there is none yet."""
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": message.name}
        if message.session is not None:
            headers["X-Hermes-Session-Id"] = message.session
        if message.park:
            headers["X-Hermes-When-Draining"] = "park"
        body = {"model": "x", "stream": message.stream, "messages": [{"role": "user", "content": message.text}]}
        try:
            async with self._http.post(f"{self._stage.url}/v1/chat/completions", json=body, headers=headers) as answer:
                if "X-Hermes-Turn-Id" in answer.headers:
                    message.turn_ids.add(answer.headers["X-Hermes-Turn-Id"])
                if answer.status == 202:
                    return "parked"
                whole = await answer.text()
                return _streamed(whole) if answer.content_type == "text/event-stream" else _said(answer.status, whole)
        except (aiohttp.ClientError, OSError) as error:
            return repr(error)

    async def runs(self, message: Message, asked: object) -> None:
        """Return once its turn runs, as ``asked()`` tells, or has an end."""
        assert callable(asked)
        await until(lambda: asked() or message.outcome)

    async def waits(self, message: Message) -> None:
        """Return once it is on disk."""
        await until(lambda: self._row(message) or message.outcome)


def _said(status: int, body: str) -> str:
    if status == 200:
        return "completed"
    code = json.loads(body)["error"]["code"]
    return "interrupted" if code == "turn_interrupted" else str(code)


def _streamed(body: str) -> str:
    for line in body.splitlines():
        if line.startswith("data: {"):
            error = json.loads(line.removeprefix("data: ")).get("error")
            if error is not None:
                return "interrupted" if error["code"] == "turn_interrupted" else str(error["code"])
    return "completed" if "data: [DONE]" in body else "cut off"
