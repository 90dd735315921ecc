"""llama.cpp's own server (the wheel xllamacpp brings it) with the automaton as its model, for a test."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
from real_models.formats import write_gguf

START_S = 30.0  # it takes a tenth of a second; a machine may be busy
END_S = 10.0
LOOK_S = 10.0  # for its answer about itself
WINDOW = 8_192  # tokens of one conversation
SLOTS = 2
MEMORY = 3 * 2**30  # bytes of address space; it needs a sixth of that
PROGRAM = Path(__file__).with_name("llama_cpp_program.py")
MODEL = "automaton.gguf"


class LlamaCpp:
    """The server; entered, it listens on a free port of 127.0.0.1.

    Args:
        folder: for the model's file and the server's log.
        python: the interpreter that has xllamacpp.
        keys: that it asks for; none: anybody may come.
    """

    def __init__(self, folder: Path, *, python: str = sys.executable, keys: tuple[str, ...] = ()) -> None:
        self._log = folder / "llama_cpp.log"
        self._python = python
        self._wanted: dict[str, Any] = {
            "model": str(folder / MODEL), "window": WINDOW, "slots": SLOTS, "memory": MEMORY, "log": str(self._log),
            "api_keys": list(keys),
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        write_gguf(Path(self._wanted["model"]))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, on the port it had before if it had one."""
        self._process = subprocess.Popen(
            [self._python, str(PROGRAM), json.dumps(self._wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        told, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if told else ""
        if not line:
            self.kill()
            raise AssertionError(f"llama.cpp did not start:\n{self.log()}")
        self.url = json.loads(line)["url"]
        self._wanted["port"] = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """SIGKILL to it and to all that it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    def log(self) -> str:
        """What it wrote, the last of it."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    @property
    def base_url(self) -> str:
        """What a client of it is configured with."""
        return f"{self.url}/v1"

    async def busy(self) -> int:
        """How many of its slots work."""
        async with asyncio_session() as http, http.get(f"{self.url}/slots") as answer:
            return sum(bool(slot["is_processing"]) for slot in await answer.json())


def asyncio_session() -> aiohttp.ClientSession:
    """For a few requests to a server."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOK_S))
