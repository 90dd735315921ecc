"""The file below a SQLite shard: who may open it, what is done about damage and a full disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.store_samples import KEY, SESSION, ended, submission

from hermes_actors.disk import sqlite
from workers.store import file as file_module
from workers.store import sqlite as sqlite_module
from workers.store.journal import Journal
from workers.store.packing import packed
from workers.store.rows import ShardRows
from workers.store.shard import ShardDamaged, StoreFailed
from workers.store.sqlite import OpenedShard, SqliteShard, open_shard

PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "03.db"


async def opened(journal: Journal, path: Path, *, shard: int = 3, fence: int = 1) -> OpenedShard:
    return await open_shard(journal, path, shard=shard, fence=fence, durability="process")


@pytest.fixture
async def store(journal: Journal, path: Path) -> AsyncIterator[SqliteShard]:
    made = (await opened(journal, path)).store
    yield made
    await made.close()


async def fill(journal: Journal, path: Path, turns: int = 30) -> None:
    """A file in which every table has several pages."""
    store = (await opened(journal, path)).store
    for at in range(turns):
        await store.admit(submission(f"turn_{at}", messages=[b"x" * 3000]), SESSION, "running")
        await store.finish(ended(f"turn_{at}", text="y" * 2000), [b"z" * 3000])
    await store.close()


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def damage_rows(path: Path) -> None:
    """Overwrite the first page that holds transcript rows."""
    page = path.read_bytes().index(b"z" * 2000) // PAGE_BYTES
    overwrite(path, page * PAGE_BYTES, b"\xff" * PAGE_BYTES)


def set_aside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.glob(f"{path.name}.corrupt-*"))


# -- making and opening -----------------------------------------------------------------------------------------------
async def test_a_new_file_is_private_with_all_that_lies_beside_it(store: SqliteShard, path: Path) -> None:
    await store.admit(submission(), SESSION, "queued")

    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}

    assert modes == {"03.db": 0o600, "03.db-wal": 0o600, "03.db-shm": 0o600}


@pytest.mark.parametrize(("durability", "synchronous"), [("power_loss", 2), ("process", 1)])
async def test_durability_decides_whether_a_commit_waits_for_the_disk(
    journal: Journal, path: Path, durability: sqlite.Durability, synchronous: int
) -> None:
    store = (await open_shard(journal, path, shard=3, fence=1, durability=durability)).store

    assert store._file.connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert store._file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await store.close()


async def test_a_file_of_a_newer_release_is_refused_and_left_as_it_is(journal: Journal, path: Path) -> None:
    await fill(journal, path, turns=1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StoreFailed, match=r"03\.db: a newer release wrote it \(version 99"):
        await opened(journal, path)

    assert [found.name for found in path.parent.iterdir()] == ["03.db"]


async def test_the_file_of_another_shard_is_refused(journal: Journal, path: Path) -> None:
    await fill(journal, path, turns=1)

    with pytest.raises(StoreFailed, match="it holds shard 3, not shard 4"):
        await opened(journal, path, shard=4)


async def test_a_path_that_cannot_be_opened_is_named(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=r"missing/03\.db: No such file or directory"):
        await opened(journal, tmp_path / "missing" / "03.db")
    (tmp_path / "03.db").symlink_to("03.db")
    with pytest.raises(StoreFailed, match=r"03\.db: Too many levels of symbolic links"):
        await opened(journal, tmp_path / "03.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
async def test_a_file_without_permission_is_refused_and_not_set_aside(journal: Journal, path: Path) -> None:
    await fill(journal, path, turns=1)
    os.chmod(path, 0)

    with pytest.raises(StoreFailed, match="Permission denied"):
        await opened(journal, path)

    assert set_aside(path) == []


async def test_a_lock_that_another_process_holds_is_waited_for_no_longer_than_its_bound(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "BUSY_S", 0.01)
    store = (await opened(journal, path)).store
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreFailed, match="another process held its lock"):
        await store.admit(submission(), SESSION, "queued")
    other.close()

    await store.admit(submission(), SESSION, "queued")
    await store.close()


# -- damage -----------------------------------------------------------------------------------------------------------
async def test_a_file_with_a_broken_header_is_set_aside_and_the_shard_goes_on_empty(
    journal: Journal, path: Path
) -> None:
    await fill(journal, path)
    overwrite(path, 0, b"this is no database" * 5)

    shard = await opened(journal, path, fence=2)

    assert shard.found.set_aside is not None
    assert shard.found.why == "file is not a database"
    assert Path(shard.found.set_aside).name in set_aside(path)
    assert Path(shard.found.set_aside).read_bytes().startswith(b"this is no database")
    assert await shard.store.transcript(SESSION) == []
    await shard.store.admit(submission(), SESSION, "queued")
    await shard.store.close()


async def test_damage_in_the_middle_is_found_at_opening(journal: Journal, path: Path) -> None:
    await fill(journal, path)
    damage_rows(path)

    shard = await opened(journal, path)

    assert shard.found.set_aside is not None
    assert "Page" in shard.found.why
    assert await shard.store.transcript(SESSION) == []
    await shard.store.close()


async def test_a_truncated_file_is_set_aside(journal: Journal, path: Path) -> None:
    await fill(journal, path)
    os.truncate(path, 10 * PAGE_BYTES)

    shard = await opened(journal, path)

    assert shard.found.set_aside is not None
    await shard.store.close()


async def test_the_log_of_a_damaged_file_goes_with_it(journal: Journal, path: Path) -> None:
    await fill(journal, path)
    overwrite(path, 0, b"\0" * 100)
    path.with_name("03.db-wal").write_bytes(b"left by a killed process")

    shard = await opened(journal, path)

    assert shard.found.set_aside is not None
    aside = Path(shard.found.set_aside)
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"left by a killed process"
    await shard.store.close()


async def test_damage_in_one_shard_leaves_the_others_alone(journal: Journal, path: Path) -> None:
    healthy = path.with_name("04.db")
    await fill(journal, path)
    store = (await opened(journal, healthy, shard=4)).store
    await store.admit(submission(), SESSION, "queued")
    damage_rows(path)

    broken = await opened(journal, path)

    assert broken.found.set_aside is not None
    assert [row.state for row in await store.unfinished()] == ["queued"]
    await store.close()
    await broken.store.close()


async def test_damage_found_in_use_is_told_and_set_aside_at_the_next_opening(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKED_WHOLE_BYTES", 0)  # as if the file were too large to check at opening
    await fill(journal, path)
    damage_rows(path)
    shard = await opened(journal, path)
    assert shard.found.set_aside is None

    with pytest.raises(ShardDamaged, match=r"03\.db: the file is damaged"):
        await shard.store.transcript(SESSION)
    await shard.store.close()

    again = await opened(journal, path)
    assert again.found.set_aside is not None
    await again.store.admit(submission(), SESSION, "queued")
    await again.store.close()  # killed before it could forget what it reported
    unreported = await opened(journal, path)
    assert unreported.found.set_aside == again.found.set_aside
    assert unreported.found.found_by == again.found.found_by > 0
    assert unreported.found.found_by <= unreported.found.fence
    await unreported.store.reported()
    await unreported.store.close()
    once_more = await opened(journal, path)
    assert once_more.found.set_aside is None
    await once_more.store.close()


async def test_a_suspect_file_that_is_sound_is_kept(journal: Journal, path: Path) -> None:
    await fill(journal, path, turns=2)
    path.with_name("03.db.suspect").touch()

    shard = await opened(journal, path)

    assert shard.found.set_aside is None
    assert len(await shard.store.transcript(SESSION)) == 2
    assert not path.with_name("03.db.suspect").exists()
    await shard.store.close()


# -- a full disk, a slow disk -----------------------------------------------------------------------------------------
async def test_a_full_disk_fails_the_write_and_later_ones_work_again(store: SqliteShard) -> None:
    limit = store._file.connection.execute
    await store.admit(submission("turn_1"), SESSION, "running")
    limit("PRAGMA max_page_count = 20")

    with pytest.raises(StoreFailed, match=r"03\.db: the disk is full"):
        await store.finish(ended("turn_1"), [b"x" * 500_000])
    row = await store.turn("turn_1")
    assert row is not None
    assert row.state == "running"
    assert await store.transcript(SESSION) == []

    limit("PRAGMA max_page_count = 1000000")
    await store.finish(ended("turn_1"), [b"x" * 500_000])
    (past,) = await store.transcript(SESSION)
    assert len(past.rows) == 2


async def test_new_turns_are_refused_before_running_ones_cannot_end(
    store: SqliteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.admit(submission("turn_1"), SESSION, "running")
    monkeypatch.setattr(sqlite_module, "MAX_WAITING_AT_ADMISSION", 0)

    with pytest.raises(StoreFailed, match="wait for the disk"):
        await store.admit(submission("turn_2"), SESSION, "running")

    await store.finish(ended("turn_1"), [])


# -- what an operation costs ------------------------------------------------------------------------------------------
async def test_sessions_that_commit_at_once_share_transactions(journal: Journal, store: SqliteShard) -> None:
    turns = [submission(f"turn_{at}", key=f"api:default:{at}") for at in range(300)]
    before = journal.transactions

    await asyncio.gather(*(store.admit(turn, f"sess_{turn.turn_id}", "queued") for turn in turns))

    assert journal.transactions - before < 30


async def test_no_operation_costs_more_in_a_larger_shard(store: SqliteShard) -> None:
    await store.admit(submission("the_first", key="api:default:first"), "sess_first", "running")
    alone = steps_of_each_operation(store._file.connection)
    for at in range(200):
        other = submission(f"other_{at}", key=f"api:default:{at}", stateless=at % 2 == 0)
        await store.admit(other, f"sess_{at}", "running")
        await store.finish(ended(f"other_{at}", session_id=f"sess_{at}"), [b"row"])

    among_others = steps_of_each_operation(store._file.connection)

    assert among_others == alone
    assert min(alone.values()) > 0


def steps_of_each_operation(connection: sqlite3.Connection) -> dict[str, int]:
    """How many instructions SQLite runs for each operation on one session; nothing of it is kept."""
    rows = ShardRows(connection, lambda: 4e9)  # after everything in the store
    sent, end = submission(idempotency_key="again"), ended(session_id="sess_new")
    kept = packed({"text": "", "finish_reason": "stop", "usage": {}, "model": "demo", "error": None})
    operations: dict[str, Callable[[], object]] = {
        "admit": lambda: rows.admit(sent, SESSION, "queued", b"\x80", b"\x80", None, None),
        "begin": lambda: rows.begin("turn_1", "sess_new"),
        "append": lambda: rows.append("turn_1", SESSION, [b"row"]),
        "unfinished": rows.unfinished,
        "finish": lambda: rows.finish(end, kept, [b"row"], own_fault=False),
        "find": lambda: rows.find(KEY, "again"),
        "turn": lambda: rows.turn("turn_1"),
        "transcript": lambda: rows.transcript("sess_new"),
        "page": lambda: rows.page("sess_new", 1, 10),
        "counts": lambda: rows.counts(KEY),
        "prune": lambda: rows.prune(1.0),
        "delete": lambda: rows.delete(KEY),
    }
    steps = dict.fromkeys(operations, 0)
    connection.execute("BEGIN")
    for name, operation in operations.items():

        def count(name: str = name) -> int:
            steps[name] += 1
            return 0

        connection.set_progress_handler(count, 1)
        operation()
    connection.set_progress_handler(None, 1)
    connection.execute("ROLLBACK")
    return steps
