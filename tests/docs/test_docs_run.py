"""The pages that a reader follows at a terminal, followed: each command is run and shows what the page shows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fakes.long_suite import long
from fakes.pages import ROOT, blocks, commands, differences
from fakes.running_gateway import BOUND_S, KEY, RunningGateway
from real_clients.clients import CLIENTS, Client
from real_clients.pages import followed

HOWTO = ROOT / "docs/howto"
BY_HAND = re.compile(
    r"bin/setup|\. .*activate|export |mkdir|\(umask|\. \$HERMES_ACTORS_HOME|rm "
)  # done by the fixture
ADDRESS = "http://127.0.0.1:8642"

INSTALLED = ("pydantic-ai", "openai-agents")  # for the tests, of the clients that have a page
DEMO = "model: {provider: demo}"


class Reader:
    """Types what a page says, into a real shell, and compares what it gets."""

    def __init__(self, home: Path, config: str, **environ: str) -> None:
        tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._config = home.with_suffix(".yaml")
        self._config.write_text(config)
        self.stopped = False
        self._environ = {"PATH": tools, "HERMES_ACTORS_HOME": str(home), "API_SERVER_KEY": KEY, **environ}
        self.gateway = RunningGateway(home, yaml.safe_load(config), environ=self._environ)

    async def follow(self, page: Path) -> list[tuple[str, list[str]]]:
        """The commands whose output lacked lines that the page shows, with those lines."""
        wrong = []
        for command in commands(page):
            if BY_HAND.match(command.line):
                continue
            if command.line.endswith("&"):
                await self._begin(command.line)
                continue
            if command.line in ("hermes-supervisor start", "hermes-supervisor start --demo"):
                if self.stopped:
                    await self.gateway.ended()
                    await self.gateway.start()
                self.stopped = False
                continue
            missing = differences(command.shown, await self.type(command.line))
            if missing:
                wrong.append((command.line, missing))
        return wrong

    async def type(self, line: str) -> str:
        if kill := re.fullmatch(r"kill -9 \d+", line):
            await self._kill_worker_0(kill[0])
            return ""
        self.stopped = line in ("hermes-ctl stop", "hermes-ctl drain")
        if line == "hermes-supervisor check-config":  # the page's own file: the gateway's has another port
            line += f" --config {self._config}"
        return await self.run("bash", "-c", line.replace(ADDRESS, self.gateway.url))

    async def run(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environ, "COLUMNS": "110"},
        )
        out, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
        return out.decode()

    async def _begin(self, line: str) -> None:
        """A command in the background that has a turn run for long; what it shows in the end is not waited for."""
        await self.run("bash", "-c", f"{line.removesuffix('&')} >/dev/null 2>&1 &")

        async def runs() -> bool:
            plan = await self.gateway.ask("drain.plan")
            return bool(plan["turns"])

        await self.gateway.until(runs, "the turn to run")

    async def _kill_worker_0(self, line: str) -> None:
        victim = (await self.gateway.workers())[0]
        await self.run("bash", "-c", re.sub(r"\d+$", str(victim["pid"]), line))

        async def replaced() -> bool:
            worker = (await self.gateway.workers())[0]
            return bool(worker["state"] == "ready" and worker["generation"] > victim["generation"])

        await self.gateway.until(replaced, "the worker to be replaced")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_tutorial_shows_what_happens(tmp_path: Path) -> None:
    page = ROOT / "docs/tutorial.md"
    (config,) = blocks(page, "yaml")
    reader = Reader(tmp_path / "home", config)
    async with reader.gateway:
        assert await reader.follow(page) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_page_on_several_people_shows_what_happens(tmp_path: Path) -> None:
    page = HOWTO / "several-people.md"
    (config,) = blocks(page, "yaml")
    keys = {"ALICE_KEY": "key-of-alice", "BOB_KEY": "key-of-bob"}
    reader = Reader(tmp_path / "home", config, **keys)
    async with reader.gateway:
        assert await reader.follow(page) == []


async def test_the_page_on_fallbacks_shows_what_happens(tmp_path: Path) -> None:
    page = HOWTO / "use-a-fallback.md"
    _, config = blocks(page, "yaml")
    reader = Reader(tmp_path / "home", config)
    async with reader.gateway:
        assert await reader.follow(page) == []


@pytest.mark.timeout(300)  # five restarts, each of which tries the new start first
@pytest.mark.parametrize("page", ["planned-restart.md", *long("stuck-session.md")])
async def test_the_pages_on_restarts_show_what_happens(page: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        assert await reader.follow(HOWTO / page) == []


async def test_the_programs_on_the_pages_get_their_answers(tmp_path: Path) -> None:
    programs = [*blocks(HOWTO / "use-the-openai-client.md", "python"), *blocks(ROOT / "README.md", "python")]
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        said = await reader.run(sys.executable, "-c", "\n".join(programs).replace(ADDRESS, reader.gateway.url))

    assert said.splitlines() == [
        "You said: Hello",
        "You said: My name is Ada.",
        "You said: What is my name?",
        "word1 word2 word3 word4 word5",
        "You said: Order the part, once.",
        "You said: Hello",
    ]


async def test_the_programs_on_the_page_about_clients_tools_run_them(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        said = [
            await reader.run(sys.executable, "-c", program.replace(ADDRESS, reader.gateway.url))
            for program in blocks(HOWTO / "client-tools.md", "python")
        ]

    assert [text.strip() for text in said] == ["The tool look said: rain in the east"]


async def test_the_programs_on_the_page_about_open_responses_get_their_answers(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        said = [
            await reader.run(sys.executable, "-c", program.replace(ADDRESS, reader.gateway.url))
            for program in blocks(HOWTO / "use-open-responses.md", "python")
        ]

    assert [text.strip() for text in said] == ["word1 word2 word3"]


async def test_the_program_on_the_page_about_runs_hears_the_run_to_its_end(tmp_path: Path) -> None:
    (program,) = blocks(HOWTO / "start-runs.md", "python")
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        said = await reader.run(sys.executable, "-c", program.replace(ADDRESS, reader.gateway.url))

    assert said.splitlines()[-2:] == ["run.completed", "word1 word2 word3"]


@pytest.mark.parametrize(
    "client",
    [client for client in CLIENTS if client.name in ("pydantic-ai", "openai-agents")],
    ids=lambda client: client.name,
)
async def test_the_programs_on_the_pages_of_clients_print_what_they_should(client: Client, tmp_path: Path) -> None:
    async with RunningGateway(tmp_path / "home", {"model": {"provider": "demo"}}) as gateway:
        outcome = await followed(client, [sys.executable], gateway, tmp_path, os.environ)

    assert outcome.held, outcome.seen


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_page_on_curl_shows_what_happens(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "home", DEMO)
    async with reader.gateway:
        assert await reader.follow(HOWTO / "clients" / "curl.md") == []
