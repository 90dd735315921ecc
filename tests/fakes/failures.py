"""Every failure on the page of failures, and how each is made to happen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from fakes.failure_stage import Happening, Stage, quoted
from fakes.model_server import Answer, call_tools, chunk, drop, hang, refuse, say, stream, whole

MAX_TURNS = 4  # agent.max_turns of the gateway that they happen to
BYTES_100_MB = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A row of the page."""

    name: str  # what happens
    happens: Happening
    server: str = "local"  # the MCP server that is watched
    session: str | None = ""  # a session of its own; with a name: one that failures share; None: without a session
    connected: bool = True  # to the server, before it happens


# -- the model ----------------------------------------------------------------------------------------------------


def answers(*scripted: Answer) -> Happening:
    """The model server answers the next requests so."""

    async def happens(stage: Stage) -> str:
        stage.model.script(*scripted)
        return await stage.ask()

    return happens


def _error(message: str, code: str) -> dict[str, dict[str, str]]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


UNKNOWN_MODEL = _error("The model `fake-1` does not exist", "model_not_found")
NO_QUOTA = _error("You exceeded your current quota", "insufficient_quota")
BROKEN = say("so far", end="cut")
NO_CHUNK = stream(chunk({"content": "so far"}), "{not json", done=False)
ERROR_CHUNK = stream({"error": {"message": "the model fell over", "type": "server_error"}}, done=False)


async def nobody_listens(stage: Stage) -> str:
    await stage.model.__aexit__()
    try:
        return await stage.ask()
    finally:
        await stage.model.__aenter__()


async def cut_in_a_stream(stage: Stage) -> str:
    heard = asyncio.Event()
    stage.model.script(say("so far", end="cut", gate=heard))
    status, events = await stage.streamed(begun=heard)
    assert '"content":"so' in "".join(events[:-1])
    assert '"code":"provider_error"' in events[-1]
    return f"{status}, the text so far, then an event with `error`: `provider_error`"


async def tools_without_end(stage: Stage) -> str:
    return await stage.ask(stage.calling("echo", '{"text": "again"}', rounds=99))


MODEL = [
    Failure(name=name, happens=happens, session="model")
    for name, happens in {
        "none; for comparison": answers(say("hello")),
        "400: the model id is wrong": answers(refuse(400, UNKNOWN_MODEL)),
        "400: the message is refused": answers(refuse(400, _error("image too large", "invalid_image"))),
        "401": answers(refuse(401)),
        "403": answers(refuse(403)),
        "404": answers(refuse(404)),
        "413": answers(refuse(413)),
        "429, with `Retry-After: 1`": answers(refuse(429, headers={"Retry-After": "1"}), say("hello")),
        "429, with `Retry-After: 600`": answers(refuse(429, headers={"Retry-After": "600"})),
        "429, without": answers(*[refuse(429)] * 2),
        "429: the quota is used up": answers(refuse(429, NO_QUOTA)),
        "500 once": answers(refuse(500), say("hello")),
        "500 again and again": answers(*[refuse(500)] * 2),
        "503 again and again": answers(*[refuse(503)] * 2),
        "no process listens at its address": nobody_listens,
        "the connection breaks before the answer": answers(*[drop()] * 2),
        "the connection breaks in the answer, once": answers(BROKEN, say("hello")),
        "the same, again and again": answers(*[BROKEN] * 2),
        "the same, where the caller streams": cut_in_a_stream,
        "no first token in time": answers(hang()),
        "no next token in time": answers(say("so far", end="hang")),
        "a chunk is no JSON": answers(*[NO_CHUNK] * 2),
        "200, with a web page": answers(whole(b"<html>Welcome</html>", "text/html")),
        "an error instead of a chunk": answers(*[ERROR_CHUNK] * 2),
        f"it calls tools without end (`agent.max_turns: {MAX_TURNS}`)": tools_without_end,
    }.items()
]

# -- two models ---------------------------------------------------------------------------------------------------


def answer_both(primary: Sequence[Answer], fallback: Answer) -> Happening:
    """The primary answers so, and then the fallback."""

    async def happens(stage: Stage) -> str:
        stage.model.script(*primary)
        stage.fallback.script(fallback)
        return await stage.ask()

    return happens


async def fails_in_the_middle(stage: Stage) -> str:
    stage.model.script(call_tools(("mcp__local__echo", '{"text": "kept"}')), refuse(503), refuse(503))
    stage.fallback.script(say("done"))
    told = await stage.ask()
    assert stage.fallback.last.body["messages"][-1]["content"] == "kept"
    assert stage.local.works_on("echo")  # once: after it, the model was asked alone
    return told


FROM_FALLBACK = say("from the fallback")

FALLBACK = [
    Failure(name=name, happens=happens, session="fallback")
    for name, happens in {
        "none; for comparison": answers(say("hello")),
        "the primary answers 400: the model id is wrong": answer_both([refuse(400, UNKNOWN_MODEL)], FROM_FALLBACK),
        "the primary answers 401": answer_both([refuse(401)], FROM_FALLBACK),
        "the primary answers 503, again and again": answer_both([refuse(503)] * 2, FROM_FALLBACK),
        "the same, after a tool was called": fails_in_the_middle,
        "the primary breaks off its answer, again and again": answer_both([BROKEN] * 2, FROM_FALLBACK),
        "the primary answers 400: the message is refused": answers(refuse(400, _error("too large", "invalid_image"))),
        "404 from both": answer_both([refuse(404)], refuse(404)),
        "404, then 401 from the fallback": answer_both([refuse(404)], refuse(401)),
        # The last one: from now on the primary is left alone.
        "the primary answers 429, with `Retry-After: 600`": answer_both(
            [refuse(429, headers={"Retry-After": "600"})], FROM_FALLBACK
        ),
    }.items()
]

# -- tool servers -------------------------------------------------------------------------------------------------


def calls(tool: str, arguments: str = "{}", *, rounds: int = 1) -> Happening:
    """The model calls a tool of the server."""

    async def happens(stage: Stage) -> str:
        return await stage.call(tool, arguments, rounds=rounds)

    return happens


def killed_in_calls(number: int) -> Happening:
    """The server is killed while it works, so many times in a turn."""

    async def happens(stage: Stage) -> str:
        asked = asyncio.create_task(stage.call("work", '{"seconds": 600}', rounds=number))
        for _ in range(number):
            await stage.called("work")
            stage.local.kill()
        return await asked

    return happens


async def killed_between_calls(stage: Stage) -> str:
    pid = stage.local.pid
    stage.local.kill()
    await stage.missed(pid)
    return await stage.call("echo", '{"text": "here"}')


async def hangs(stage: Stage) -> str:
    os.kill(stage.local.pid, signal.SIGSTOP)
    return await stage.call("pid", rounds=3)


def starts_as(line: str) -> Happening:
    """Its command runs something else until the next message."""

    async def happens(stage: Stage) -> str:
        stage.local.runs(line)
        try:
            return await stage.call("pid")
        finally:
            stage.local.works()

    return happens


async def has_no_program(stage: Stage) -> str:
    stage.local.vanishes()
    try:
        return await stage.call("pid")
    finally:
        stage.local.works()


async def never_started(stage: Stage) -> str:
    told = await stage.ask()
    system = stage.model.last.body["messages"][0]
    assert system["role"] == "system"
    return f"{told}; the model gets: {quoted(system['content'])}"


async def offers_another_tool(stage: Stage) -> str:
    await stage.call("grow")

    async def is_offered() -> bool:
        await stage.ask()
        return any(tool["function"]["name"] == "mcp__local__grown" for tool in stage.model.last.body["tools"])

    await stage.gateway.until(is_offered, "the new tool on offer")
    stage.count_from_here()
    return await stage.call("grown")


@asynccontextmanager
async def stopped(stage: Stage) -> AsyncIterator[None]:
    """While the remote server is not there."""
    await stage.remote.stop()
    try:
        yield
    finally:
        await stage.remote.start()


async def restarted(stage: Stage) -> str:
    async with stopped(stage):
        pass
    return await stage.call("echo", '{"text": "here"}')


async def away(stage: Stage) -> str:
    async with stopped(stage):
        return await stage.call("echo", '{"text": "here"}')


async def required_and_away(stage: Stage) -> str:
    async with stopped(stage):
        return await stage.ask()


TOOLS = [
    Failure(name="none; for comparison", happens=calls("echo", '{"text": "here"}'), session="tools"),
    Failure(name="the tool says that it failed", happens=calls("boom"), session="tools"),
    Failure(name="there is no such tool", happens=calls("ecko"), session="tools"),
    Failure(name="the arguments do not fit", happens=calls("echo", '{"txt": 1}'), session="tools"),
    Failure(name="the arguments are no JSON", happens=calls("echo", '{"text": '), session="tools"),
    Failure(name="the result has 1 MB of text", happens=calls("big", '{"characters": 1000000}'), session="tools"),
    Failure(name="the result has 100 MB", happens=calls("big", f'{{"characters": {BYTES_100_MB}}}'), session="tools"),
    Failure(name="the list of tools changes", happens=offers_another_tool, session="tools"),
    Failure(name="the tool never returns", happens=calls("sleep", '{"seconds": 600}'), server="hasty", session="hasty"),
    Failure(name="the server hangs: no answer to three calls", happens=hangs, server="hasty", session="hasty"),
    Failure(name="the server dies in a call", happens=killed_in_calls(1), server="small"),
    Failure(name="the server dies in each of two calls", happens=killed_in_calls(2), server="small"),
    Failure(name="the server dies between two turns", happens=killed_between_calls, server="small"),
    Failure(name="the server crashes when it is started", happens=starts_as("false"), server="small", connected=False),
    Failure(
        name="the server says nothing when it is started",
        happens=starts_as("sleep 3600"),
        server="small",
        connected=False,
    ),
    Failure(name="its program is gone", happens=has_no_program, server="small", connected=False),
    Failure(name="its program was never there", happens=never_started, session="tools"),
    Failure(name="a remote server is restarted", happens=restarted, server="remote", session="tools"),
    Failure(name="the same, in the older protocol", happens=restarted, server="older", session="tools"),
    Failure(name="a remote server is away", happens=away, server="remote", session="tools"),
    Failure(name="a required server is away", happens=required_and_away, server="remote", connected=False),
]

# -- callers ------------------------------------------------------------------------------------------------------


async def leaves(stage: Stage, **headers: str) -> asyncio.Event:
    """A caller asks, and is gone before the answer, which comes when the event is set."""
    gate = asyncio.Event()
    stage.model.script(say("the answer", gate=gate))
    asked = asyncio.create_task(stage.chat("hello", **headers))
    await stage.model.until(lambda: stage.model.in_flight == 1)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked
    return gate


async def leaves_without_session(stage: Stage) -> str:
    aborted = stage.model.aborted
    await leaves(stage)
    await stage.model.until(lambda: stage.model.aborted > aborted)
    return "no caller; the turn is cancelled, and the request to the model closed"


async def leaves_with_idempotency_key(stage: Stage) -> str:
    gate = await leaves(stage, Idempotency_Key="once")
    gate.set()
    status, body, headers = await stage.again(Idempotency_Key="once")
    assert (body["choices"][0]["message"]["content"], headers["Idempotency-Replayed"]) == ("the answer", "true")
    return f"no caller; the turn continues, and the same request gets its answer: {status}"


async def leaves_session(stage: Stage) -> str:
    gate = await leaves(stage)
    gate.set()

    async def kept() -> bool:
        _, page, _ = await stage.gateway.request("GET", f"/api/sessions/{stage.session}/messages")
        return bool(page["data"][-1]["message"]["content"] == "the answer")

    await stage.gateway.until(kept, "the answer in the transcript")
    return "no caller; the turn continues, and its answer is in the transcript"


async def stops_the_model(stage: Stage) -> str:
    stage.model.script(hang())
    asked = asyncio.create_task(stage.ask())
    await stage.model.until(lambda: stage.model.in_flight == 1)
    assert await stage.gateway.say("/stop", stage.session) == "Stopped."
    return await asked


async def stops_the_tool(stage: Stage) -> str:
    asked = asyncio.create_task(stage.ask(stage.calling("work", '{"seconds": 600}')))
    await stage.called("work")
    told = await stage.gateway.say("/stop", stage.session)
    assert told.startswith("Stopped. Ended with it: ")
    return await asked


CALLERS = [
    Failure(name="the caller of a session leaves", happens=leaves_session, session="callers"),
    Failure(name="a caller without a session leaves", happens=leaves_without_session, session=None),
    Failure(name="the same, with an `Idempotency-Key`", happens=leaves_with_idempotency_key, session=None),
    Failure(name="`/stop` while the model is asked", happens=stops_the_model, session="callers"),
    Failure(name="`/stop` while a tool runs", happens=stops_the_tool, server="small", session="callers"),
]
