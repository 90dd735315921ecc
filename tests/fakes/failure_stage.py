"""Where failures are staged: a gateway, the models and tool servers it talks to, and an account of what it did."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from fakes.asking import ask
from fakes.failure_table import Row
from fakes.mcp_counting import RAW_SCRIPT, SCRIPT, Counting, free_port
from fakes.model_server import ModelServer
from fakes.running_gateway import BOUND_S, KEY, Answer, RunningGateway

from hermes_actors.home import Home
from hermes_actors.operators import client

FAILED = ("400", "429", "500", "502", "504")
LONGEST_QUOTE = 240  # characters; the page is for people

_HOW = re.compile(r", model \S+ \((.+?)\): ")  # of each provider, in an error
_ADVICE = re.compile(r"What to do: (.+?)\.?$", re.DOTALL)
_PORT = re.compile(r"(?<=127\.0\.0\.1):\d+")
_DIRECTORY = re.compile(r"/\S+(?=/command\b)")
_END_OF_START = re.compile(r"it closed the connection(?=; see logs/)")  # a process ends and its pipe does: either first
_numbers = itertools.count(1)


class Server:
    """An MCP server as the failures need it: it counts its starts and calls, and can be made to misbehave."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.counting = Counting(directory)
        self.config: dict[str, Any] = {}

    @property
    def calls(self) -> list[str]:
        return self.counting.calls

    def starts(self, connections: list[dict[str, Any]]) -> int:
        """How often the gateway began it.

        Args:
            connections: of the session to it, as the gateway tells them.
        """
        raise NotImplementedError


class LocalServer(Server):
    """A program that the gateway starts, behind a command that can change.

    Args:
        small: it has few tools, and starts at once.
    """

    def __init__(self, directory: Path, *, small: bool = False, **settings: Any) -> None:
        super().__init__(directory)
        self._program = f"-S {RAW_SCRIPT}" if small else str(SCRIPT)
        self._command = directory / "command"
        self._killed: set[int] = set()
        self.config = {"command": str(self._command), **settings}
        self.works()

    @property
    def pid(self) -> int:
        """Of the newest process."""
        return int(self._lines("launches")[-1])

    def works_on(self, tool: str) -> bool:
        """Whether the newest process lives and was called, and the tool was the last."""
        return self.pid not in self._killed and self._lines("calls")[-1:] == [f"{self.pid} {tool}"]

    def kill(self) -> None:
        """End the newest process."""
        self._killed.add(self.pid)
        os.kill(self.pid, signal.SIGKILL)

    def starts(self, connections: list[dict[str, Any]]) -> int:
        return len(self._lines("launches"))  # its own account, not the gateway's

    def runs(self, line: str) -> None:
        """From its next start on it is this."""
        self._command.write_text(f"#!/bin/sh\necho $$ >> {self.counting.directory}/launches\nexec {line}\n")
        self._command.chmod(0o700)

    def works(self) -> None:
        self.runs(f"{sys.executable} {self._program} {self.counting.directory}")

    def vanishes(self) -> None:
        self._command.unlink()

    def _lines(self, name: str) -> list[str]:
        path = self.counting.directory / name
        return path.read_text().splitlines() if path.exists() else []


class RemoteServer(Server):
    """A server that runs by itself and is reached over HTTP."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory)
        self._port = free_port()
        self.config = {"url": f"http://127.0.0.1:{self._port}/mcp", **settings}

    def starts(self, connections: list[dict[str, Any]]) -> int:
        return sum(row["starts"] for row in connections)

    async def start(self) -> None:
        await asyncio.to_thread(self.counting.start_http, self._port)

    async def stop(self) -> None:
        await asyncio.to_thread(self.counting.kill_http)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A gateway and what it talks to; the stage of each failure is one session of it."""

    gateway: RunningGateway
    model: ModelServer
    fallback: ModelServer | None
    servers: Mapping[str, Server]


class Stage:
    """One session for one failure, and what it costs there.

    Args:
        session: None for requests without one.
        server: the MCP server that the failure is about.
    """

    def __init__(self, setting: Setting, session: str | None, server: str) -> None:
        self.gateway = setting.gateway
        self.model = setting.model
        self._fallback = setting.fallback
        self.session = session
        self._name = server
        self._server = setting.servers[server]
        self._text = ""
        self._counted_from: list[int] = []

    @property
    def fallback(self) -> ModelServer:
        assert self._fallback is not None
        return self._fallback

    @property
    def local(self) -> LocalServer:
        assert isinstance(self._server, LocalServer)
        return self._server

    @property
    def remote(self) -> RemoteServer:
        assert isinstance(self._server, RemoteServer)
        return self._server

    # -- what people do -------------------------------------------------------------------------------------------
    async def chat(self, text: str, **headers: str) -> Answer:
        """A message that nothing else says."""
        self._text = f"{text} (message {next(_numbers)})"
        return await self.again(**headers)

    async def ask(self, text: str = "hello", **headers: str) -> str:
        """A message; what its caller sees."""
        return seen(await self.chat(text, **headers))

    async def call(self, tool: str, arguments: str = "{}", *, rounds: int = 1) -> str:
        """A message that makes the model call a tool; what its caller sees, and what the model was told."""
        status, body, _ = await self.chat(self.calling(tool, arguments, rounds))
        assert status == 200, body
        results = [message["content"] for message in self.model.last.body["messages"] if message["role"] == "tool"]
        return f"200; the model gets: {quoted(results[-1])}"

    async def again(self, **headers: str) -> Answer:
        """The last message once more."""
        return await self.gateway.chat(self._text, self.session, via=None, **headers)

    async def streamed(self, text: str = "hello", *, begun: asyncio.Event) -> tuple[int, list[str]]:
        """A message whose answer is streamed: the status, and the data of each event. Sets ``begun`` at its head."""
        body = {"stream": True, "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": self.session or ""}
        url = f"{self.gateway.url}/v1/chat/completions"
        async with (
            asyncio.timeout(BOUND_S),
            aiohttp.ClientSession() as http,
            http.post(url, json=body, headers=headers) as answer,
        ):
            begun.set()
            events = (await answer.text()).split("\n\n")
            return answer.status, [event.removeprefix("data: ") for event in events if event]

    def calling(self, tool: str, arguments: str = "{}", rounds: int = 1) -> str:
        """A message that makes the model call a tool of the server."""
        return f"[[tool:mcp__{self._name}__{tool}:{arguments}]][[rounds:{rounds}]]"

    async def called(self, tool: str) -> None:
        """Wait until the server works on this tool."""

        async def arrived() -> bool:
            return self.local.works_on(tool)

        await self.gateway.until(arrived, f"a call of {tool}")

    async def missed(self, pid: int) -> None:
        """Wait until the gateway knows that a process of the server is no more."""

        async def is_known() -> bool:
            return pid not in [row["pid"] for row in (await self._shown())["mcp"]]

        await self.gateway.until(is_known, f"the end of process {pid} to be noticed")

    def count_from_here(self) -> None:
        """What was asked of the models so far was preparation."""
        self._counted_from = self._asked()

    # -- what it costs --------------------------------------------------------------------------------------------
    async def row(self, failure: str, happens: Happening, *, connected: bool) -> Row:
        """Let it happen, let the next message follow, and say what both came to."""
        if connected:
            await self._good_turn()
        before = await self._account()
        self._counted_from = before.asked
        what = await happens(self)
        asked = self._asked()
        following = await self._follow(failed=what[:3] in FAILED)
        after = await self._account()
        return Row(
            failure=failure,
            seen=what,
            requests=" + ".join(str(now - then) for now, then in zip(asked, self._counted_from, strict=True)),
            starts=str(after.starts - before.starts),
            restarts=str(after.restarts - before.restarts) if self.session else "—",
            following=following,
        )

    async def _good_turn(self) -> None:
        """A turn with a tool call: a session's server is connected then."""
        await self.gateway.say("hello" if self.session is None else self.calling("pid"), self.session)

    async def _follow(self, *, failed: bool) -> str:
        before = self._asked()
        await self._good_turn()
        of_primary, *of_fallback = (now - then for now, then in zip(self._asked(), before, strict=True))
        if of_fallback:
            return "answered by the primary" if of_primary else "answered by the fallback, the primary is not asked"
        carried = any(self._text in str(message["content"]) for message in self.model.last.body["messages"])
        return "answered, without the failed one" if failed and not carried else "answered"

    async def _account(self) -> _Account:
        shown = await self._shown()
        connections = [row for row in shown["mcp"] if row["server"] == self._name]
        return _Account(
            asked=self._asked(), starts=self._server.starts(connections), restarts=shown["actor"]["restarts"]
        )

    async def _shown(self) -> dict[str, Any]:
        """The session as an operator is shown it; one that is not there yet has done nothing."""
        home, key = Home(self.gateway.home), f"api:default:{self.session}"
        try:
            return await asyncio.to_thread(ask, home, "sessions.show", session=key)
        except client.OperationFailed as error:
            if error.code != "not_found":
                raise
            return {"mcp": [], "actor": {"restarts": 0}}

    def _asked(self) -> list[int]:
        """Requests to each model, the primary first."""
        return [self.model.count] + ([] if self._fallback is None else [self._fallback.count])


Happening: TypeAlias = Callable[[Stage], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """What was done so far."""

    asked: list[int]
    starts: int
    restarts: int


def seen(answer: Answer) -> str:
    """An answer in short: status and code, how the providers failed, what to do."""
    status, body, headers = answer
    if status == 200:
        return "200"
    assert headers["x-should-retry"] == "false"
    message = body["error"]["message"]
    how = "; ".join(_HOW.findall(message))
    wait = f", `Retry-After: {headers['Retry-After']}`" if "Retry-After" in headers else ""
    found = _ADVICE.search(message)
    words = found[1] if found else message.rstrip(".")
    return f"{status} `{body['error']['code']}`{f' ({how})' if how else ''}{wait}: {plain(words)}"


def quoted(text: str) -> str:
    """What somebody was told; of several lines the last, where it says what was cut."""
    line = plain(text.splitlines()[-1])
    return f"“{line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + '…'}”"


def plain(text: str) -> str:
    """Without what differs from run to run."""
    text = _END_OF_START.sub("its process ended while it started", text)
    return _DIRECTORY.sub("…", _PORT.sub("", text))
