"""What is on disk after the owner of a shard was killed in the middle of its commits, or replaced."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes import store_writer
from fakes.store_samples import BOUND_S

from workers.store.journal import Journal
from workers.store.sqlite import SqliteShard, open_shard

TESTS = Path(__file__).parents[1]
ROWS: dict[str, tuple[bytes, ...]] = {
    "queued": (),
    "called": (b"message", b"call"),
    "ended": (b"message", b"call", b"result", b"answer"),
}
REACHED = {"queued": {"queued", "completed"}, "called": {"queued", "completed"}, "ended": {"completed"}}


@asynccontextmanager
async def writer(path: Path, fence: int) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "fakes.store_writer", str(path), str(fence))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=TESTS)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process, lines: int | None = None) -> dict[str, str]:
    """The last that was said of each turn, in this many lines or to the end."""
    assert process.stdout is not None
    last: dict[str, str] = {}
    async with asyncio.timeout(BOUND_S):
        while (lines is None or len(last) < lines) and (line := await process.stdout.readline()).endswith(b"\n"):
            what, turn_id = line.decode().rstrip("\n").split(" ")
            last[turn_id] = what
    return last


async def check(store: SqliteShard, acknowledged: dict[str, str]) -> None:
    """All that was acknowledged is there, and nothing is there by half."""
    transcript = {
        past.turn_id: past
        for session in range(store_writer.SESSIONS)
        for past in await store.transcript(f"sess_{session}")
    }
    for turn_id, what in acknowledged.items():
        row = await store.turn(turn_id)
        assert row is not None, f"{turn_id} was {what} and is gone"
        assert row.state in REACHED[what]
        rows = transcript[turn_id].rows if turn_id in transcript else ()
        assert rows[: len(ROWS[what])] == ROWS[what]
    for past in transcript.values():
        assert past.rows == ROWS["ended" if past.state == "completed" else "called"]


async def test_what_was_acknowledged_survives_a_kill_in_the_middle_of_commits(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "03.db"
    acknowledged: dict[str, str] = {}
    for round_ in range(1, 6):
        async with writer(path, fence=round_) as process:
            acknowledged |= await said(process, lines=37 * round_)
            process.kill()
            acknowledged |= await said(process)

    opened = await open_shard(journal, path, shard=3, fence=6, durability="process")
    assert opened.found.set_aside is None
    assert len(acknowledged) >= 37 * 15
    await check(opened.store, acknowledged)
    unfinished = {row.submission.turn_id for row in await opened.store.unfinished()}
    assert len(unfinished) <= 5 * store_writer.SESSIONS
    await opened.store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_an_owner_that_was_replaced_while_it_writes_stops_and_loses_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "03.db"
    async with writer(path, fence=1) as process:
        acknowledged = await said(process, lines=20)
        opened = await open_shard(journal, path, shard=3, fence=2, durability="process")
        at_takeover = {row.submission.turn_id for row in await opened.store.unfinished()}
        acknowledged |= await said(process)
        async with asyncio.timeout(BOUND_S):
            assert await process.wait() == store_writer.FENCED_OFF

    await check(opened.store, acknowledged)
    assert {row.submission.turn_id for row in await opened.store.unfinished()} == at_takeover
    await opened.store.close()


async def test_an_owner_with_an_older_fence_does_not_even_start(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "03.db"
    opened = await open_shard(journal, path, shard=3, fence=3, durability="process")
    await opened.store.close()

    async with writer(path, fence=2) as process, asyncio.timeout(BOUND_S):
        assert await process.wait() == store_writer.FENCED_OFF
