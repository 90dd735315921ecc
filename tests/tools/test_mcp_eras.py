from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.mcp_counting import Counting, call, until
from fakes.virtual_time import in_virtual_time, time_passes

from workers.tools import eras
from workers.tools.eras import Eras
from workers.tools.servers import ToolServers

Serve = Callable[..., ToolServers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "mcp_eras.json"


async def test_a_server_of_the_older_protocol_is_asked_for_the_newer_one_once(
    serve: Serve, counting: Counting, path: Path
) -> None:
    for session in ("a", "b"):  # each with a worker of its own
        toolbox = serve(count=counting.raw(protocol="auto")).toolbox(session)
        await toolbox.definitions()
        await until(path.exists, "it is remembered")
        assert (await call(toolbox, "echo", text="hi")).text == "hi"

    assert len(counting.starts) == 2
    assert counting.questions == 1


async def test_a_server_that_does_not_come_up_as_remembered_is_asked_again(
    serve: Serve, counting: Counting, path: Path
) -> None:
    servers = serve(count=counting.raw("slow", protocol="auto", connect_timeout=0.3))
    (entry,) = servers._entries
    Eras(path).note(entry.target.offer, old=True)

    await servers.toolbox("a").definitions()

    assert not Eras(path).is_old(entry.target.offer)


def test_what_one_worker_learns_the_next_one_knows(path: Path) -> None:
    one, other = Eras(path), Eras(path)
    one.note("x", old=True)
    other.note("y", old=True)
    one.note("z", old=False)

    assert [Eras(path).is_old(server) for server in "xyz"] == [True, True, False]
    assert path.stat().st_mode & 0o777 == 0o600
    one.note("x", old=False)
    assert [Eras(path).is_old(server) for server in "xy"] == [False, True]


@in_virtual_time
async def test_what_was_seen_long_ago_is_asked_again(path: Path) -> None:
    Eras(path).note("x", old=True)

    await time_passes(eras.KEPT_S)
    assert not Eras(path).is_old("x")


def test_the_oldest_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eras, "MAX_KEPT", 2)
    memory = Eras(path)
    for server in "abc":
        memory.note(server, old=True)

    assert [Eras(path).is_old(server) for server in "abc"] == [False, True, True]


@pytest.mark.parametrize("content", ["", "[1]", '{"x": "long ago"}', "{", '{"x": 1e999}'])
def test_a_file_that_is_damaged_holds_nothing(path: Path, content: str) -> None:
    path.write_text(content)
    memory = Eras(path)

    assert not memory.is_old("x")
    memory.note("x", old=True)
    assert list(json.loads(path.read_text())) == ["x"]


def test_a_disk_that_cannot_be_written_costs_a_question(tmp_path: Path) -> None:
    memory: Any = Eras(tmp_path / "nowhere" / "mcp_eras.json")

    memory.note("x", old=True)

    assert memory.is_old("x")
