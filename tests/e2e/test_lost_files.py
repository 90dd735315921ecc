"""Files that are deleted, emptied, cut or swapped: noticed at the start, mended where that is possible, and told."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.long_suite import long
from fakes.running_gateway import BOUND_S, RunningGateway

from hermes_actors.wire.sharding import shard_of

SHARDS = 8
DEMO: dict[str, Any] = {"model": {"provider": "demo"}, "supervisor": {"workers": 1, "shards": SHARDS}}
NAMES = [f"s{number}" for number in range(6)]

FOUND = "The gateway lost its list of conversations, and found this one again"
GONE = "is lost: the gateway lost its file"
MISSING = "may be missing"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with RunningGateway(tmp_path / "home", DEMO) as gateway:
        yield gateway


def file_of(gateway: RunningGateway, name: str, companion: str = "") -> Path:
    shard = shard_of(f"api:default:{name}", SHARDS)
    return gateway.home / "state" / "shards" / f"{shard:02d}.db{companion}"


async def talk(gateway: RunningGateway, text: str = "hello") -> None:
    for name in NAMES:
        await gateway.say(f"{text} from {name}", name)


async def crash(gateway: RunningGateway) -> None:
    """Everything is killed at once."""
    processes = gateway.processes()
    for process in processes:
        process.kill()
    await gateway.ended()
    await asyncio.to_thread(psutil.wait_procs, processes, BOUND_S)


async def said(gateway: RunningGateway, name: str) -> list[str]:
    """What was said in a session."""
    _, page, _ = await gateway.request("GET", f"/api/sessions/{name}/messages")
    return [row["message"]["content"] for row in page["data"] if row["message"]["role"] == "user"]


async def why(gateway: RunningGateway, name: str) -> str:
    _, told, _ = await gateway.ctl("why", name)
    return " ".join(told.split())


async def status(gateway: RunningGateway) -> str:
    _, told, _ = await gateway.ctl("status")
    return " ".join(told.split())


# -- the registry -----------------------------------------------------------------------------------------------------


def emptied(registry: Path) -> None:
    registry.write_bytes(b"")


def deleted(registry: Path) -> None:
    registry.unlink()


def a_directory(registry: Path) -> None:
    registry.unlink()
    registry.mkdir()


def cut_to_a_page(registry: Path) -> None:
    os.truncate(registry, 4096)


@pytest.mark.parametrize("lose", [emptied, *long(deleted, a_directory, cut_to_a_page)])
async def test_a_registry_that_was_lost_gets_its_sessions_back_from_the_shard_files_and_they_say_so(
    gateway: RunningGateway, lose: Callable[[Path], None]
) -> None:
    await talk(gateway)
    await gateway.stop()
    lose(gateway.home / "state" / "registry.db")

    await gateway.start()

    _, listed, _ = await gateway.request("GET", "/api/sessions")
    assert {row["id"] for row in listed["data"]} == set(NAMES)
    assert "the registry lost sessions" in gateway.output()
    assert "the registry was behind" in await status(gateway)
    assert "the registry had lost this session" in await why(gateway, "s1")
    assert FOUND in await gateway.say("go on", "s1")
    assert FOUND not in await gateway.say("go on", "s1")
    assert FOUND not in await gateway.say("hello", "a-new-one")
    assert (await said(gateway, "s1"))[:2] == ["hello from s1", "go on"]


async def test_a_registry_that_lost_its_log_in_a_crash_knows_all_sessions_again(gateway: RunningGateway) -> None:
    await talk(gateway)
    await crash(gateway)
    for log in (gateway.home / "state").glob("registry.db-*"):
        log.unlink()

    await gateway.start()

    _, listed, _ = await gateway.request("GET", "/api/sessions")
    assert {row["id"] for row in listed["data"]} == set(NAMES)
    assert FOUND in await gateway.say("go on", "s3")
    assert await said(gateway, "s3") == ["hello from s3", "go on"]


@pytest.mark.long
async def test_an_older_registry_that_was_put_back_is_completed(gateway: RunningGateway, tmp_path: Path) -> None:
    await gateway.say("hello from s0", "s0")
    await gateway.stop()
    shutil.copy(gateway.home / "state" / "registry.db", tmp_path / "backup.db")
    await gateway.start()
    await talk(gateway, "later")
    await gateway.say("/reset", "s0")
    await gateway.say("begun again", "s0")
    await gateway.stop()
    shutil.copy(tmp_path / "backup.db", gateway.home / "state" / "registry.db")

    await gateway.start()

    assert await said(gateway, "s0") == ["begun again"]
    assert await said(gateway, "s5") == ["later from s5"]
    assert FOUND in await gateway.say("go on", "s5")


async def test_a_registry_without_its_sessions_is_completed(gateway: RunningGateway) -> None:
    import sqlite3  # as a person with a shell

    await talk(gateway)
    await gateway.stop()
    with sqlite3.connect(gateway.home / "state" / "registry.db") as registry:
        registry.execute("DELETE FROM sessions")
    registry.close()

    await gateway.start()

    assert FOUND in await gateway.say("go on", "s1")
    assert await said(gateway, "s1") == ["hello from s1", "go on"]


# -- a shard ----------------------------------------------------------------------------------------------------------


def garbage(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"\xde\xad" * 50)


@pytest.mark.parametrize("lose", [deleted, *long(emptied, a_directory, garbage)])
async def test_sessions_of_a_shard_that_was_lost_say_so_once_and_others_do_not(
    gateway: RunningGateway, lose: Callable[[Path], None]
) -> None:
    await talk(gateway)
    await gateway.stop()
    lost = file_of(gateway, "s0")
    lose(lost)

    await gateway.start()

    assert "lost all it had" in await status(gateway)
    assert "is lost" in await why(gateway, "s0")
    assert "the next reply says what was lost" in await why(gateway, "s0")
    assert "the shard continues with what is left" in gateway.output()
    for name in NAMES:
        assert (GONE in await gateway.say("what did I say?", name)) == (file_of(gateway, name) == lost), name
    assert GONE not in await gateway.say("and now?", "s0")
    assert GONE not in await gateway.say("hello", "a-new-one")
    await gateway.stop()
    await gateway.start()
    assert GONE not in await gateway.say("and now?", "s0"), "it is told once, over restarts too"


def unlinked(log: Path) -> None:
    log.unlink()


def halved(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 2)


def overwritten(log: Path) -> None:
    with log.open("r+b") as opened:
        opened.seek(log.stat().st_size // 2)
        opened.write(b"\xff" * 5000)  # more than a page


@pytest.mark.parametrize("lose", [halved, *long(unlinked, overwritten)])
async def test_sessions_of_a_shard_whose_log_was_lost_in_a_crash_say_so(
    gateway: RunningGateway, lose: Callable[[Path], None]
) -> None:
    await talk(gateway)
    await talk(gateway, "later")
    await crash(gateway)
    lose(file_of(gateway, "s0", "-wal"))

    await gateway.start()

    assert "shard" in await status(gateway)
    assert "lost" in await status(gateway)
    reply = await gateway.say("what did I say?", "s0")
    assert GONE in reply or MISSING in reply
    reply = await gateway.say("and now?", "s0")
    assert GONE not in reply
    assert MISSING not in reply


@pytest.mark.long
async def test_logs_that_are_deleted_with_their_indexes_are_noticed_too(gateway: RunningGateway) -> None:
    await talk(gateway)
    await crash(gateway)
    for log in file_of(gateway, "s0").parent.glob("*.db-*"):
        log.unlink()

    await gateway.start()

    reply = await gateway.say("what did I say?", "s0")
    assert GONE in reply or MISSING in reply


async def test_a_crash_that_lost_nothing_is_not_taken_for_a_loss(gateway: RunningGateway) -> None:
    for round_ in range(3):
        await talk(gateway, f"round {round_}")
        await crash(gateway)
        await gateway.start()

    assert (await gateway.status() or {})["losses"] == []
    assert await said(gateway, "s4") == [f"round {round_} from s4" for round_ in range(3)]


async def test_a_registry_and_a_shard_that_are_lost_together_are_both_noticed(gateway: RunningGateway) -> None:
    await talk(gateway)
    await gateway.stop()
    (gateway.home / "state" / "registry.db").unlink()
    last = gateway.home / "state" / "shards" / f"{SHARDS - 1:02d}.db"
    last.unlink()

    await gateway.start()

    told = await status(gateway)
    assert "the registry was behind" in told
    assert f"shard {SHARDS - 1} lost all it had" in told
    kept = [name for name in NAMES if file_of(gateway, name) != last]
    _, listed, _ = await gateway.request("GET", "/api/sessions")
    assert {row["id"] for row in listed["data"]} == set(kept), "the number of shards is what it was"


async def test_a_file_in_the_place_of_the_shard_directory_does_not_keep_the_gateway_from_starting(
    gateway: RunningGateway,
) -> None:
    await talk(gateway)
    await gateway.stop()
    shards = gateway.home / "state" / "shards"
    shards.rename(gateway.home / "state" / "elsewhere")
    shards.write_text("this is no directory")

    await gateway.start()

    assert GONE in await gateway.say("what did I say?", "s0")
