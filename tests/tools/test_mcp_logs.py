"""What stdio servers write to standard error: kept, private, and bounded while they run."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.mcp_counting import BOUND_S, until

from hermes_actors.config.model import McpServer
from workers.tools import server_logs
from workers.tools.server_logs import keep_small
from workers.tools.servers import ToolServers

Serve = Callable[..., ToolServers]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(server_logs, "MAX_LOG_BYTES", 1_000)
    monkeypatch.setattr(server_logs, "LOOK_INTERVAL_S", 0.02)
    return tmp_path / "mcp-noisy.log"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_the_log_of_a_server_that_goes_on_writing_is_emptied_and_what_it_writes_then_is_seen(
    serve: Serve, log: Path
) -> None:
    more = log.with_name("more")
    much = "dd if=/dev/zero bs=1500 count=1 status=none >&2"  # at once
    script = f"{much}; while [ ! -e {more} ]; do sleep 0.02; done; echo seen >&2; sleep 300"
    toolbox = serve(noisy=McpServer(command="sh", args=("-c", script), connect_timeout=BOUND_S)).toolbox("a")
    starting = asyncio.create_task(toolbox.definitions())
    kept = log.with_name("mcp-noisy.log.1")
    await until(lambda: kept.exists() and log.stat().st_size == 0, "the log is emptied")
    file = log.stat().st_ino

    more.touch()

    await until(lambda: log.read_text() == "seen\n", "the log has what was written last")
    assert log.stat().st_ino == file
    assert kept.stat().st_size == 1_000
    assert (mode(log), mode(kept)) == (0o600, 0o600)
    await toolbox.close()
    await starting
    await until(lambda: "mcp logs" not in {task.get_name() for task in asyncio.all_tasks()}, "nobody looks any more")


async def test_a_large_log_of_a_server_is_set_aside_at_its_start(serve: Serve, log: Path) -> None:
    log.write_bytes(b"x" * 1_001)
    toolbox = serve(noisy=McpServer(command="sh", args=("-c", "echo new >&2; exit 1"))).toolbox("a")

    await toolbox.definitions()

    assert log.read_text() == "new\n"
    assert log.with_name("mcp-noisy.log.1").stat().st_size == 1_000


def test_a_log_whose_end_cannot_be_kept_is_emptied_all_the_same(log: Path) -> None:
    log.write_bytes(b"x" * 1_001)
    log.with_name("mcp-noisy.log.1").mkdir()

    keep_small(log)

    assert log.stat().st_size == 0


def test_a_log_that_another_worker_empties_or_that_is_no_file_is_left_alone(log: Path) -> None:
    log.write_bytes(b"x" * 1_001)
    link = log.with_name("mcp-link.log")
    link.symlink_to(log)
    keep_small(link)
    keep_small(log.with_name("mcp-none.log"))

    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        keep_small(log)
        assert log.stat().st_size == 1_001

    keep_small(log)
    assert log.stat().st_size == 0
