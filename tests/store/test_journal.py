"""The writer thread, on databases that only remember what was done to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakes.store_samples import BOUND_S

from workers.store import journal as journal_module
from workers.store.journal import Journal
from workers.store.shard import StoreFailed


class Refused(Exception):
    pass


class FakeDatabase:
    """Keeps what was committed; ``open_`` holds the writer thread at the beginning of a transaction."""

    def __init__(self) -> None:
        self.kept: list[object] = []
        self.transactions = 0
        self.closed = False
        self.may_begin = threading.Event()
        self.may_begin.set()
        self.begun = threading.Event()
        self.begins_fail = False
        self._pending: list[object] = []

    def begin(self) -> None:
        self.begun.set()
        assert self.may_begin.wait(BOUND_S)
        assert not self._pending
        self.transactions += 1
        if self.begins_fail:
            raise Refused("no lock")

    def commit(self) -> None:
        self.kept += self._pending
        self._pending = []

    def rollback(self) -> None:
        self._pending = []

    def close(self) -> None:
        self.closed = True

    def failure(self, error: Exception) -> Exception:
        return StoreFailed(str(error)) if isinstance(error, Refused) else error

    def write(self, value: object) -> int:
        self._pending.append(value)
        return len(self.kept) + len(self._pending)

    def write_and_fail(self, value: object) -> None:
        self._pending.append(value)
        raise Refused("constraint")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Whatever is submitted inside waits together."""
        self.may_begin.clear()
        try:
            yield
        finally:
            self.may_begin.set()


@pytest.fixture
async def database(journal: Journal) -> AsyncIterator[FakeDatabase]:
    made = FakeDatabase()
    yield made
    made.may_begin.set()


async def bounded(*waiting: asyncio.Future[Any]) -> list[Any]:
    async with asyncio.timeout(BOUND_S):
        return list(await asyncio.gather(*waiting, return_exceptions=True))


async def test_what_waits_is_committed_together_per_database(journal: Journal, database: FakeDatabase) -> None:
    other = FakeDatabase()
    with database.held():
        first = journal.submit(database, database.write, "first")
        assert await asyncio.to_thread(database.begun.wait, BOUND_S)  # the thread has taken the first, and is held
        rest = [journal.submit(to, to.write, at) for at in range(50) for to in (database, other)]

    results = await bounded(first, *rest)

    assert database.kept == ["first", *range(50)]
    assert results[1::2] == list(range(2, 52))
    assert other.kept == list(range(50))
    assert (database.transactions, other.transactions, journal.transactions) == (2, 1, 3)


async def test_an_operation_that_fails_is_undone_alone(journal: Journal, database: FakeDatabase) -> None:
    with database.held():
        works: list[Callable[[object], object]] = [database.write, database.write_and_fail, database.write]
        submitted = [journal.submit(database, work, at) for at, work in enumerate(works)]

    results = await bounded(*submitted)

    assert database.kept == [0, 2]
    assert results[0] == 1
    assert isinstance(results[1], StoreFailed)
    assert results[2] == 2


async def test_a_transaction_that_cannot_begin_is_tried_once(journal: Journal, database: FakeDatabase) -> None:
    database.begins_fail = True
    with database.held():
        first = journal.submit(database, database.write, "first")
        assert await asyncio.to_thread(database.begun.wait, BOUND_S)
        submitted = [first, *(journal.submit(database, database.write, at) for at in range(3))]

    results = await bounded(*submitted)

    assert [type(result) for result in results] == [StoreFailed] * 4
    assert (database.transactions, database.kept) == (2, [])


async def test_a_bug_in_an_operation_is_told_as_it_is(journal: Journal, database: FakeDatabase) -> None:
    (result,) = await bounded(journal.submit(database, int, "no number"))

    assert isinstance(result, ValueError)
    assert await journal.submit(database, database.write, "next") == 1


async def test_cancelling_the_caller_does_not_cancel_the_write(journal: Journal, database: FakeDatabase) -> None:
    with database.held():
        cancelled = journal.submit(database, database.write, "cancelled")
        failing = journal.submit(database, database.write_and_fail, "cancelled too")
        cancelled.cancel()
        failing.cancel()

    await bounded(journal.submit(database, database.write, "next"))

    assert database.kept == ["cancelled", "next"]


async def test_over_its_bound_the_journal_refuses(
    journal: Journal, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_WAITING", 3)
    with database.held():
        waiting = [journal.submit(database, database.write, at) for at in range(3)]
        with pytest.raises(StoreFailed, match="3 operations wait"):
            journal.submit(database, database.write, "too much")
        assert journal.waiting == 3

    await bounded(*waiting)

    assert journal.waiting == 0
    assert await journal.submit(database, database.write, "again") == 4


async def test_a_released_database_is_closed_after_what_came_before(journal: Journal, database: FakeDatabase) -> None:
    with database.held():
        write = journal.submit(database, database.write, "last")
        released = journal.release(database)
        after = journal.submit(database, database.write, "after")

    await bounded(write, released, after)

    assert database.closed
    assert database.kept[0] == "last"


async def test_close_commits_what_was_submitted_and_refuses_the_rest(database: FakeDatabase) -> None:
    closing = Journal()
    submitted = [closing.submit(database, database.write, at) for at in range(100)]

    await closing.close()
    await closing.close()

    assert database.kept == list(range(100))
    assert all(future.done() for future in submitted)
    with pytest.raises(StoreFailed):
        closing.submit(database, database.write, "late")


async def test_close_does_not_wait_for_ever_for_a_dead_disk(
    database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CLOSE_S", 0.01)
    closing = Journal()
    with database.held():
        stuck = closing.submit(database, database.write, "stuck")
        async with asyncio.timeout(BOUND_S):
            await closing.close()
        assert not stuck.done()

    await bounded(stuck)


async def test_the_thread_leaves_nobody_waiting_when_a_bug_ends_it(
    database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    buggy = Journal()

    def bug() -> None:
        raise SystemExit

    with database.held():
        fatal = buggy.submit(database, bug)
        after = buggy.submit(database, database.write, "never")

    results = await bounded(fatal, after)
    await asyncio.to_thread(buggy._thread.join, BOUND_S)  # past its excepthook

    assert [type(result) for result in results] == [StoreFailed, StoreFailed]
