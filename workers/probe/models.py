"""The questions that a model is asked for a trial."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
import zlib
from collections.abc import Mapping

import orjson

from hermes_actors.config.model import Config, ModelEndpoint
from workers.models import provider_of
from workers.models.cause import Cause
from workers.models.provider import ModelFailure, ModelProvider, ModelRequest
from workers.probe.checks import PING, Outcome, ProbeAnswers, ProbedConfig

QUESTION_S = 60.0  # for one question; a model that has to be loaded first takes long
WRONG_MODEL = "hermes-actors-no-such-model"
PICTURE_SIDE = 32  # pixels; some models refuse smaller pictures


def endpoints(config: Config) -> list[tuple[str, ModelEndpoint, ProbedConfig]]:
    """The primary model and its fallbacks: what people call each, where it is, and what is wanted of it."""
    has_tools = any(server.enabled for server in config.mcp_servers.values())
    named: list[tuple[str, ModelEndpoint, str]] = [("model", config.model, config.model.default)]
    named += [(f"fallback {n}", entry, entry.model) for n, entry in enumerate(config.fallback_providers, 1)]
    return [
        (
            name,
            endpoint,
            ProbedConfig(
                model=model,
                has_tools=has_tools,
                context_length=endpoint.context_length,
                vision=endpoint.vision,
            ),
        )
        for name, endpoint, model in named
    ]


async def seen_of(endpoint: ModelEndpoint, model: str, environment: Mapping[str, str]) -> ProbeAnswers:
    """Ask a model everything, each question once."""
    provider = provider_of(endpoint, model, environment, max_retries=0)
    blunt = provider_of(endpoint, model, environment, max_retries=0, max_lessons=0)  # which does not go on without
    try:
        return await _asked(provider, blunt, model, pictures=endpoint.vision is not False)
    finally:
        await asyncio.gather(provider.close(), blunt.close())


async def _asked(provider: ModelProvider, blunt: ModelProvider, model: str, *, pictures: bool) -> ProbeAnswers:
    pieces: list[str] = []
    began = time.monotonic()
    plain = await _ask(provider, _request("Count from 1 to 10, in one line."), pieces)
    seconds = time.monotonic() - began
    if isinstance(plain, ModelFailure):
        return ProbeAnswers(plain=plain, seconds=seconds)
    call = _request('Call the tool ping with the text "hello".', tools=True)
    return ProbeAnswers(
        plain=plain,
        pieces=len(pieces),
        seconds=seconds,
        tool=await _ask(blunt, call),
        picture=await _ask(blunt, _picture_request()) if pictures else None,
        wrong_model=await _ask(provider, _request("Say yes.", model=WRONG_MODEL)),
        window=await provider.window(model),
    )


async def _ask(provider: ModelProvider, request: ModelRequest, pieces: list[str] | None = None) -> Outcome:
    heard: list[str] = [] if pieces is None else pieces
    try:
        async with asyncio.timeout(QUESTION_S):
            return await provider.complete(request, heard.append)
    except TimeoutError:
        return ModelFailure(
            cause=Cause.TIMEOUT,
            kind="timeout",
            provider=provider.name,
            model=request.model or provider.model,
            status=None,
            text=f"no answer within {QUESTION_S:g} s",
            code=None,
            retry_after_s=None,
            attempts=1,
        )


def _request(text: str, *, tools: bool = False, model: str | None = None) -> ModelRequest:
    message = orjson.dumps({"role": "user", "content": text})
    if tools:
        return ModelRequest(messages=[message], tools=PING, model=model)
    return ModelRequest(messages=[message], model=model)


def _picture_request() -> ModelRequest:
    url = f"data:image/png;base64,{base64.b64encode(red_square(PICTURE_SIDE)).decode()}"
    question = "Which colour is this square? Answer with one word."
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return ModelRequest(messages=[orjson.dumps({"role": "user", "content": parts})])


def red_square(side: int) -> bytes:
    """A PNG file of one colour (PNG specification, third edition: 8-bit truecolour, one IDAT chunk)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
