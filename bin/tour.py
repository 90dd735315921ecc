"""The tour behind bin/try: a gateway in a temporary home, a short conversation in several sessions, the way to go on.

Nothing here is special to the tour: it starts the installed ``hermes-supervisor`` and talks to its HTTP API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import click
import yaml
from rich.console import Console
from rich.table import Table

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 60.0  # a cold machine compiles and loads for a while
REPLY_TIMEOUT_S = 60.0  # the first tool call starts a server
STOP_TIMEOUT_S = 30.0
POLL_S = 0.1

CONFIG = {
    "model": {"provider": "demo"},
    "mcp_servers": {"time": {"command": str(BIN / "python"), "args": ["-m", "mcp_server_time"]}},
    "supervisor": {"workers": 2},
    "api_server": {"port": 0},
    "admin": {"port": 0},
}

console = Console()


class Gateway:
    """The gateway of the tour, as its user sees it."""

    def __init__(self, home: Path, url: str, http: aiohttp.ClientSession) -> None:
        self.home = home
        self.url = url
        self.http = http

    async def say(self, session: str, text: str) -> str:
        """One message in a session; the whole reply."""
        async with self._post(session, text, stream=False) as answer:
            body = await answer.json()
            return str(body["choices"][0]["message"]["content"])

    async def stream(self, session: str, text: str) -> AsyncIterator[str]:
        """One message in a session; the reply as it comes."""
        async with self._post(session, text, stream=True) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:]).get("choices", ()):
                        yield choice["delta"].get("content") or ""

    def _post(self, session: str, text: str, *, stream: bool) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.http.post(
            f"{self.url}/v1/chat/completions",
            json={"model": "hermes-actors", "stream": stream, "messages": [{"role": "user", "content": text}]},
            headers={"X-Hermes-Session-Id": session},
        )

    def ctl(self, *arguments: str) -> dict[str, object]:
        """What ``hermes-ctl`` says."""
        return ctl(self.home, *arguments)


def ctl(home: Path, *arguments: str) -> dict[str, object]:
    """``hermes-ctl … --json``; empty while no supervisor answers."""
    command = [str(BIN / "hermes-ctl"), *arguments, "--home", str(home), "--json"]
    out = subprocess.run(command, capture_output=True, check=False, timeout=REPLY_TIMEOUT_S).stdout
    answer: dict[str, object] = json.loads(out) if out.strip() else {}
    return answer


@contextlib.contextmanager
def supervisor(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``hermes-supervisor start`` on a home, stopped in the end."""
    (home / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    log = home / "output.log"
    command = [str(BIN / "hermes-supervisor"), "start", "--demo", "--home", str(home)]
    with log.open("wb") as output:
        # Its own session: Ctrl-C reaches this tour, which then stops the gateway in order.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # the terminal may be gone
            console.print("\nStopping the gateway …")
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


async def until_ready(home: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the workers; the gateway's URL."""
    with console.status("Starting a supervisor and 2 workers …"):
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                status = await asyncio.to_thread(ctl, home, "status")
                if process.poll() is not None:
                    raise click.ClickException(f"the gateway did not start:\n{(home / 'output.log').read_text()}")
                if status.get("phase") == "serving":
                    http = status["http"]
                    assert isinstance(http, dict)
                    return f"http://{http['host']}:{http['port']}"
                await asyncio.sleep(POLL_S)


async def converse(gateway: Gateway) -> None:
    """The main job: several sessions at once, a tool, a stream, and memory."""
    names = ["ada", "bob", "cleo", "dan"]
    replies = await asyncio.gather(*(gateway.say(name, f"hello, I am {name}") for name in names))
    said = [(name, f"hello, I am {name}", reply) for name, reply in zip(names, replies, strict=True)]

    question = 'call get_current_time {"timezone": "Europe/Berlin"}'
    with console.status("ada asks for the time: her agent starts an MCP server …"):
        said.append(("ada", question, await gateway.say("ada", question)))

    console.print("[bold]bob[/bold]: say 12 words")
    console.print("[dim]streamed:[/dim] ", end="")
    words = ""
    async for piece in gateway.stream("bob", "say 12 words"):
        words += piece
        console.print(piece, end="", style="cyan", highlight=False)
    console.print()
    said.append(("bob", "say 12 words", words))

    listed = await asyncio.to_thread(gateway.ctl, "sessions", "list")
    sessions = listed["sessions"]
    assert isinstance(sessions, list)
    workers = {session["key"].rpartition(":")[2]: session["worker"] for session in sessions}
    table = Table(title="Who said what, and which worker served it", title_justify="left")
    for column in ("session", "worker", "message", "reply"):
        table.add_column(column, overflow="fold")
    for name, message, reply in said:
        table.add_row(name, str(workers[name]), message, " ".join(reply.split()))
    console.print(table)


def explain(gateway: Gateway, key: str) -> None:
    """How to go on by hand."""
    body = json.dumps({"model": "hermes-actors", "messages": [{"role": "user", "content": "hello again"}]})
    curl = [
        *("curl", "-s", f"{gateway.url}/v1/chat/completions", "-H", f"Authorization: Bearer {key}"),
        *("-H", "X-Hermes-Session-Id: ada", "-H", "Content-Type: application/json", "-d", body),
    ]
    chat = ["bin/hermes-ctl", "chat", "ada", "--home", str(gateway.home)]
    console.print("Go on talking to ada:\n")
    for command in (curl, chat):
        console.print(f"  {shlex.join(command)}\n", highlight=False, soft_wrap=True, markup=False)
    console.print("Ctrl-C ends the gateway and removes its home.")


def api_key(home: Path) -> str:
    """The key that ``--demo`` made."""
    lines = (home / ".env").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("API_SERVER_KEY="))


async def tour(home: Path, *, once: bool) -> None:
    """Start, talk, and stay or end."""
    with supervisor(home) as process:
        url = await until_ready(home, process)
        key = api_key(home)
        timeout = aiohttp.ClientTimeout(total=REPLY_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, raise_for_status=True) as http:
            gateway = Gateway(home, url, http)
            await converse(gateway)
        if not once:
            explain(gateway, key)
            await asyncio.to_thread(process.wait)


@click.command(help=__doc__)
@click.option("--once", is_flag=True, help="End after the conversation, with exit code 0.")
def main(once: bool) -> None:
    """Run the tour in a home that is removed afterwards."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script's background job is started without
    for number in (signal.SIGTERM, signal.SIGHUP):  # a terminal that is closed, too, leaves nothing behind
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory(prefix="hermes-actors-") as directory, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(tour(Path(directory), once=once))


if __name__ == "__main__":
    main()
