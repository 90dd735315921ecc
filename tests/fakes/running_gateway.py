"""A real gateway for a test: the installed command, its own home, its own processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import openai
import psutil
import yaml
from fakes.asking import ask

from hermes_actors.home import Home
from hermes_actors.operators.client import NoAnswer, NotRunning

BOUND_S = 30.0  # the one bound of every wait for a gateway
POLL_S = 0.02
KEY = "test-key-0123456789"

Answer = tuple[int, dict[str, Any], Mapping[str, str]]


def installed(command: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).with_name(command))


class RunningGateway:
    """``hermes-supervisor start`` on a home, and ways to talk to it.

    Args:
        home: made where there is none.
        config: of ``config.yaml``; the port is chosen by the system.
        program: starts it, with the option ``--home``; ``hermes-supervisor start`` by default.
    """

    def __init__(
        self,
        home: Path,
        config: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
    ) -> None:
        self.home = home
        self._program = program or (installed("hermes-supervisor"), "start")
        self._config = {"supervisor": {"workers": 2}, **config}
        self._config["api_server"] = {"port": 0, "key_env": "API_SERVER_KEY"} | dict(config.get("api_server") or {})
        self._environ = {**os.environ, "API_SERVER_KEY": KEY, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.kill()
            await self.ended()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- life -----------------------------------------------------------------------------------------------------
    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.yaml").write_text(yaml.safe_dump(self._config))
        command = [*self._program, "--home", str(self.home)]
        with (self.home / "output.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # waits for nothing
                command, env=self._environ, stdout=output, stderr=output
            )
        await self.until(self._is_ready, "the gateway to be ready")
        self._http = self._http or aiohttp.ClientSession()

    async def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self._process.returncode}:\n{self.output()}")
        status = await self.status()
        if status is None or any(worker["state"] != "ready" for worker in status["workers"]):
            return False
        self.url = f"http://127.0.0.1:{status['http']['port']}"
        return True

    async def stop(self) -> int:
        """Stop it in order; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = await self.ended()
        if self._http is not None:
            await self._http.close()
            self._http = None
        return code

    async def ended(self) -> int:
        """Wait for its end, however that comes."""
        assert self._process is not None
        try:
            return await asyncio.to_thread(self._process.wait, BOUND_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the gateway did not end:\n{self.output()}") from None

    def kill(self) -> None:
        """SIGKILL to the supervisor alone."""
        assert self._process is not None
        self._process.kill()

    def output(self) -> str:
        return (self.home / "output.log").read_text()[-6000:]

    def processes(self) -> list[psutil.Process]:
        """It and all that it started."""
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    async def until(self, holds: Any, what: str) -> None:
        """Wait until an async predicate holds; what no event tells has to be looked at."""
        try:
            async with asyncio.timeout(BOUND_S):
                while not await holds():  # noqa: ASYNC110  # another process's state has no event
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"waited {BOUND_S} s for {what}:\n{self.output()}") from None

    # -- operators ------------------------------------------------------------------------------------------------
    async def ctl(self, *arguments: str) -> tuple[int, str, str]:
        """``hermes-ctl``: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            installed("hermes-ctl"),
            *arguments,
            "--home",
            str(self.home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
        )
        out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
        return process.returncode or 0, out.decode(), err.decode()

    async def ctl_json(self, *arguments: str) -> tuple[int, Any]:
        code, out, _ = await self.ctl(*arguments, "--json")
        return code, json.loads(out) if out.strip() else None

    async def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """What ``hermes-ctl`` asks, without the cost of its process: for what is looked at again and again."""
        return await asyncio.to_thread(ask, Home(self.home), operation, **arguments)

    async def status(self) -> dict[str, Any] | None:
        """None while no supervisor answers."""
        try:
            return await self.ask("status")
        except (NotRunning, NoAnswer):
            return None

    async def workers(self) -> list[dict[str, Any]]:
        return list((await self.ask("status"))["workers"])

    # -- people ---------------------------------------------------------------------------------------------------
    def openai(self, key: str = KEY, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = KEY,
        headers: Mapping[str, str] | None = None,
        via: aiohttp.ClientSession | None = None,
    ) -> Answer:
        """Any request: status, JSON body, headers."""
        http = via or self._http
        assert http is not None
        sent = {"Authorization": f"Bearer {key}"} | dict(headers or {})
        async with asyncio.timeout(BOUND_S), http.request(method, self.url + path, json=body, headers=sent) as answer:
            return answer.status, await answer.json(), answer.headers

    async def chat(
        self,
        text: str | Sequence[dict[str, Any]],
        session: str | None = None,
        *,
        via: aiohttp.ClientSession | None = None,
        **headers: str,
    ) -> Answer:
        """One message; in a session, or stateless with the whole conversation."""
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else list(text)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if session is not None:
            sent["X-Hermes-Session-Id"] = session
        body = {"model": "x", "messages": messages}
        return await self.request("POST", "/v1/chat/completions", body, headers=sent, via=via)

    @asynccontextmanager
    async def landing_on(self, slot: int) -> AsyncIterator[aiohttp.ClientSession]:
        """A connection that the worker of a slot accepted."""
        while True:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
                _, _, headers = await self.chat("which worker is this?", via=http)
                if headers["X-Hermes-Worker"] == str(slot):
                    yield http
                    return

    async def say(self, text: str, session: str | None = None, **headers: str) -> str:
        """One message that must succeed; the reply's text."""
        status, body, _ = await self.chat(text, session, via=None, **headers)
        assert status == 200, body
        return str(body["choices"][0]["message"]["content"])
