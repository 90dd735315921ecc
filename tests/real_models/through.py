"""What people see of a model server through the gateway: the rows of the second table of the page.

Each situation is a conversation of its own. It held if what people see, and what the server is asked, is as
docs/reference/http.md and docs/explanation/failures.md say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from fakes.outside_run import Outcome, tried
from fakes.running_gateway import KEY, RunningGateway
from fakes.tap import Passed, Tap
from real_models.automaton import AFTER_A_RESULT, ASKED_FOR, PLAIN
from real_models.directly import PIXEL, TOOL, events
from real_models.odd_schemas_server import FORMS
from real_models.servers import ModelServer

ENDLESS = next(chain for chain in ASKED_FOR if chain.endless)
TIME_SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
ODD_SERVER = Path(__file__).with_name("odd_schemas_server.py")
LONG_SERVER = Path(__file__).with_name("long_result_server.py")
WORDS_S = 30.0  # until the first words of an answer
AT_ONCE = 6  # sessions, more than any of the servers has slots
TURNS = 8  # of a conversation that outgrows the window


class Through:
    """A gateway on a server, with a tap between them."""

    def __init__(self, server: ModelServer, gateway: RunningGateway, tap: Tap) -> None:
        self.server = server
        self.gateway = gateway
        self.tap = tap

    async def say(self, text: Any, session: str, **fields: Any) -> tuple[int, str]:
        """One message: status, and the reply's text or the error's."""
        body = {"model": "x", "messages": [{"role": "user", "content": text}], **fields}
        headers = {"X-Hermes-Session-Id": session}
        status, answer, _ = await self.gateway.request("POST", "/v1/chat/completions", body, headers=headers)
        if status != 200:
            return status, str(answer["error"]["message"])
        return status, str(answer["choices"][0]["message"]["content"])

    async def stream(self, text: str, session: str, words: asyncio.Event | None = None, **fields: Any) -> str:
        """One message whose answer is streamed; all that came, an error event too.

        Args:
            text: the message.
            session: its session.
            words: set when words of the answer have come.
            fields: of the request, besides.
        """
        body = {"model": "x", "messages": [{"role": "user", "content": text}], "stream": True, **fields}
        headers = {"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": session}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.gateway.url}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            came = b""
            async for piece in answer.content.iter_any():
                came += piece
                if words is not None and ENDLESS.pieces[1].encode() in came:
                    words.set()
            return came.decode()

    def outcome(self, held: bool, seen: str = "") -> Outcome:
        """With the answers that the server gave meanwhile."""
        answers = ", ".join(str(status or "none") for status in self.tap.statuses)
        return Outcome(held=held, seen=seen or answers)

    async def answers_again(self, session: str) -> bool:
        """Whether the session's next message is answered by one request."""
        self.tap.clear()
        return await self.say("hello", session) == (200, PLAIN.text) and self.tap.statuses == [200]


Situation = Callable[[Through], Awaitable[Outcome]]


def tokens_told(passed: list[Passed]) -> int:
    """The tokens that the server counted."""
    last = [[event["usage"] for event in events(one.said) if event.get("usage")][-1:] for one in passed]
    return sum(usage["total_tokens"] for usages in last for usage in usages)


async def plain(at: Through) -> Outcome:
    body = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}
    status, answer, _ = await at.gateway.request("POST", "/v1/chat/completions", body)
    held = status == 200 and answer["choices"][0]["message"]["content"] == PLAIN.text
    return at.outcome(held and answer["usage"]["total_tokens"] == tokens_told(at.tap.passed) > 0)


async def streamed(at: Through) -> Outcome:
    told = events(await at.stream("an endless story", "streamed", max_tokens=100))
    pieces = [event["choices"][0]["delta"].get("content") or "" for event in told if event.get("choices")]
    return at.outcome("".join(pieces).strip() == (ENDLESS.text * 50).strip())


async def tool_call(at: Through) -> Outcome:
    said = await at.say("what time is it?", "tool")
    if TOOL in said[1]:  # the server parses no calls of this model: nothing there is wrong, but people should know
        return at.outcome("tool call" in at.gateway.output(), "the call is the answer; a warning in the log")
    sent = at.tap.last.body["messages"][-1]
    return at.outcome(said == (200, AFTER_A_RESULT.text) and sent["role"] == "tool" and "UTC" in sent["content"])


async def cut_answer(at: Through) -> Outcome:
    body = {"model": "x", "messages": [{"role": "user", "content": "an endless story"}], "max_tokens": 7}
    status, answer, _ = await at.gateway.request("POST", "/v1/chat/completions", body)
    return at.outcome(status == 200 and answer["choices"][0]["finish_reason"] == "length")


async def half_a_call(at: Through) -> Outcome:
    status, _ = await at.say("what time is it?", "half", max_tokens=5)
    seen = at.outcome(status == 200 and set(at.tap.statuses) == {200})
    return Outcome(held=seen.held and await at.answers_again("half"), seen=seen.seen)


async def empty_answer(at: Through) -> Outcome:
    status, text = await at.say("silence", "empty")
    seen = at.outcome(status == 200 and bool(text))
    return Outcome(held=seen.held and await at.answers_again("empty"), seen=seen.seen)


async def picture(at: Through) -> Outcome:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    said = await at.say(parts, "picture")
    seen = at.outcome(said == (200, PLAIN.text))
    return Outcome(held=seen.held and await at.answers_again("picture"), seen=seen.seen)


async def odd_schemas(at: Through) -> Outcome:
    odd = {"command": sys.executable, "args": ["-S", str(ODD_SERVER), *FORMS]}
    async with beside(at, mcp_servers={"odd": odd}) as other:
        said = await other.say("hello", "odd")
        return other.outcome(said == (200, PLAIN.text) and "mcp__odd__plain" in other.tap.last.tools)


async def too_long(at: Through) -> Outcome:
    status, text = await at.say("x" * (at.server.window + 1_000), "long")
    if status == 200:
        return at.outcome(held=True, seen="answered: the server knows no bound")
    numbers = str(at.server.window) in text.replace(",", "")
    seen = at.outcome(status == 400 and numbers, f"the caller gets {status}")
    return Outcome(held=seen.held and await at.answers_again("long"), seen=seen.seen)


async def grown(at: Through) -> Outcome:
    turns = ["word " * (at.server.window // 25) for _ in range(TURNS)]
    said = [await at.say(f"chapter {turn}: {words}", "grown") for turn, words in enumerate(turns)]
    answered = sum(one == (200, PLAIN.text) for one in said)
    refused = sum(status != 200 for status in at.tap.statuses)
    return at.outcome(answered == TURNS, f"{answered} of {TURNS} answered; server refused {refused}")


async def long_result(at: Through) -> Outcome:
    long = {"command": sys.executable, "args": ["-S", str(LONG_SERVER), str(3 * at.server.window)]}
    async with beside(at, mcp_servers={"time": long}) as other:
        said = await other.say("what time is it?", "long")
        if TOOL in said[1]:
            return other.outcome(held=True, seen="no call: as above")
        seen = other.outcome(said == (200, AFTER_A_RESULT.text))
        status, _ = await other.say("what did you do?", "long")
        remembered = status == 200 and TOOL in json.dumps(other.tap.last.body["messages"])
        return Outcome(held=seen.held and remembered, seen=seen.seen + ("" if remembered else "; forgotten"))


async def wrong_model(at: Through) -> Outcome:
    return await _falls_back(at, model={"default": "nonsense"})


async def wrong_key(at: Through) -> Outcome:
    if at.server.key is None:
        return Outcome(held=True, seen="it asks for none")
    return await _falls_back(at, model={"key_env": "WRONG_KEY"})


async def _falls_back(at: Through, model: dict[str, Any]) -> Outcome:
    """The primary is wrong, the fallback right: it answers, and the primary is asked once a turn."""
    right = provider(at.server, at.tap)
    fallback = {("model" if name == "default" else name): value for name, value in right.items()}
    async with beside(at, model=right | model, fallback_providers=[fallback]) as other:
        said = [await other.say("hello", f"fallback-{turn}") for turn in range(2)]
        refused = sum(status != 200 for status in other.tap.statuses)
        return other.outcome(said == [(200, PLAIN.text)] * 2 and refused <= 2)


async def more_than_slots(at: Through) -> Outcome:
    said = await asyncio.gather(*(at.say("hello", f"at-once-{n}") for n in range(AT_ONCE)))
    answered = sum(one == (200, PLAIN.text) for one in said)
    return at.outcome(answered == AT_ONCE, f"{answered} of {AT_ONCE} answered")


async def stopped(at: Through) -> Outcome:
    words = asyncio.Event()
    turn = asyncio.create_task(at.stream("an endless story", "stopped", words))
    await asyncio.wait_for(words.wait(), WORDS_S)
    await at.say("/stop", "stopped")
    told = await turn
    with contextlib.suppress(TimeoutError):
        await at.tap.until(lambda: at.tap.last.left)
    left = at.tap.last.left
    held = "turn_cancelled" in told and left and await at.answers_again("stopped")
    return at.outcome(held, "the server's answer ends" if left else "the server writes on")


async def killed(at: Through) -> Outcome:
    words = asyncio.Event()
    turn = asyncio.create_task(at.stream("an endless story", "killed", words))
    await asyncio.wait_for(words.wait(), WORDS_S)
    at.server.kill()
    told = await turn
    held, seen = '"error"' in told, f"an error event, {len(at.tap.passed)} request"
    if held and at.server.restart is not None:
        at.server.restart()
        held, seen = await at.answers_again("killed"), f"{seen}; next turn answered"
    return at.outcome(held, seen)


THROUGH: dict[str, Situation] = {
    "an answer, and its tokens": plain,
    "a streamed answer": streamed,
    "a tool call, to a real tool server and back": tool_call,
    "an answer cut by `max_tokens` says so": cut_answer,
    "a tool call cut by `max_tokens`, then the next turn": half_a_call,
    "an empty answer, then the next turn": empty_answer,
    "a picture, then the next turn": picture,
    "tool schemas of fifteen odd forms": odd_schemas,
    "a message longer than the window, then the next turn": too_long,
    "a conversation that outgrows the window": grown,
    "a tool's result that does not fit, then the next turn": long_result,
    "a wrong model id, with a fallback": wrong_model,
    "a wrong key, with a fallback": wrong_key,
    "more sessions at once than slots": more_than_slots,
    "`/stop` in a long answer": stopped,
    "the server killed in the answer": killed,  # the last: not each comes back
}


def provider(server: ModelServer, tap: Tap) -> dict[str, Any]:
    """The ``model`` section for a server behind a tap."""
    key = {} if server.key is None else {"key_env": "RIGHT_KEY"}
    return {"provider": "custom", "default": server.model, "base_url": tap.base_url, **key}


@asynccontextmanager
async def through(server: ModelServer, home: Path, **config: Any) -> AsyncIterator[Through]:
    """A gateway on the server."""
    async with Tap(server.base_url) as tap:
        sections = {
            "model": provider(server, tap), "supervisor": {"workers": 1}, "mcp_servers": {"time": TIME_SERVER},
            "agent": {"restart_drain_timeout": 5}, **config,
        }  # fmt: skip
        keys = {"RIGHT_KEY": server.key or "", "WRONG_KEY": "sk-another-0123456789"}
        async with RunningGateway(home, sections, environ=keys) as gateway:
            yield Through(server, gateway, tap)


@asynccontextmanager
async def beside(at: Through, **config: Any) -> AsyncIterator[Through]:
    """Another gateway on the same server, on the same tap."""
    sections = {"model": provider(at.server, at.tap), "supervisor": {"workers": 1}, **config}
    keys = {"RIGHT_KEY": at.server.key or "", "WRONG_KEY": "sk-another-0123456789"}
    at.tap.clear()
    number = len(list(at.gateway.home.parent.iterdir()))
    async with RunningGateway(at.gateway.home.with_name(f"home-{number}"), sections, environ=keys) as gateway:
        yield Through(at.server, gateway, at.tap)


async def play(server: ModelServer, home: Path, only: str, told: Callable[[str, Outcome], None]) -> dict[str, Outcome]:
    """All situations on one server."""
    outcomes: dict[str, Outcome] = {}
    async with through(server, home) as at:
        for title, situation in THROUGH.items():
            if only not in title:
                continue
            at.tap.clear()
            outcomes[title] = await tried(situation(at))
            told(title, outcomes[title])
    return outcomes
