"""The one writer thread of a worker: commits of many sessions, grouped per shard.

The event loop submits operations; the thread takes all that wait, runs those of one database in one transaction, and
answers them together. So the loop never waits for a disk, and a busy worker pays for one commit where many wait for it.
Operations on one database are done in the order of their submission, reads too: a read sees the writes before it.
An operation that fails does so alone; the others of its transaction are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple

import structlog

from hermes_actors.wire.failpoints import point
from workers.store.shard import StoreFailed

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_WAITING = 16_384  # operations submitted and not answered; a disk this far behind gets no more
MAX_GROUPED = 512  # operations taken at once: bounds how long the first of them waits for the last
CLOSE_S = 10.0  # to finish what was submitted; then the thread is left to the end of the process

log = structlog.get_logger(__name__)


class Database(Protocol):
    """What a journal writes to; all but the making of it happens on the journal's thread."""

    def begin(self) -> None:
        """Begin a transaction. What this raises fails all its operations."""

    def commit(self) -> None:
        """Make the transaction durable."""

    def rollback(self) -> None:
        """Undo the transaction, whatever state it is in. Does not raise."""

    def close(self) -> None:
        """Close the file. Does not raise."""

    def failure(self, error: Exception) -> Exception:
        """What the caller of a failed operation gets."""


_Work: TypeAlias = Callable[..., Any]
_Operation: TypeAlias = tuple[Database, _Work | None, tuple[Any, ...], asyncio.Future[Any]]  # no work: close
_Outcome: TypeAlias = tuple[asyncio.Future[Any], Any, Exception | None]


class Journal:
    """The writer thread and the way to it, for the event loop that runs when it is made."""

    def __init__(self) -> None:
        self.transactions = 0  # begun since the start; many operations share one
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._closing = False
        self._closed = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Operations that were submitted and are not answered yet."""
        return len(self._unanswered)

    def submit(self, database: Database, work: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Have ``work(*args)`` done inside a transaction of ``database``; the future is its result, after the commit.

        The work may be run twice, the first time to be rolled back. Cancelling the future does not cancel the work.

        Raises:
            StoreFailed: the journal is closed, or too much waits already.
        """
        return self._put(database, work, args)

    def release(self, database: Database) -> asyncio.Future[None]:
        """Close a database after all that was submitted for it."""
        return self._put(database, None, ())

    async def close(self) -> None:
        """Do what was submitted, then end the thread; give up after :data:`CLOSE_S`."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        done, _ = await asyncio.wait([self._closed], timeout=CLOSE_S)
        if not done:
            log.error("the disk did not take the last commits in time", waiting=self.waiting, seconds=CLOSE_S)

    def _put(self, database: Database, work: _Work | None, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        if self._closing:
            raise StoreFailed("the store is closed")
        if len(self._unanswered) >= MAX_WAITING:
            raise StoreFailed(f"{MAX_WAITING} operations wait for the disk already")
        future = self._loop.create_future()
        self._unanswered.add(future)
        self._queue.put((database, work, args, future))
        return future

    def _answer(self, outcomes: Sequence[_Outcome]) -> None:
        for future, result, error in outcomes:
            self._unanswered.discard(future)
            if future.done():  # the caller stopped waiting
                if error is not None:
                    log.warning("a store operation failed after its caller had gone", why=str(error))
            elif error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _end(self) -> None:
        """The thread is over: by :meth:`close`, or by a bug of ours, after which no caller may wait for ever."""
        self._closing = True
        self._answer([(future, None, StoreFailed("the store is closed")) for future in self._unanswered])
        self._closed.set_result(None)

    # -- the thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            last = False
            while not last:
                batch, last = self._take()
                for database, operations in batch.items():
                    outcomes = self._perform(database, operations)
                    # Each database by itself, so that a slow commit delays no other shard's answers.
                    self._on_loop(self._answer, outcomes)
        finally:
            self._on_loop(self._end)

    def _on_loop(self, callback: Callable[[*Ts], None], *args: *Ts) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits any more
            self._loop.call_soon_threadsafe(callback, *args)

    def _take(self) -> tuple[dict[Database, list[_Operation]], bool]:
        """All operations that wait, by database; and whether they are the last."""
        batch: dict[Database, list[_Operation]] = {}
        operation = self._queue.get()
        for _ in range(min(self._queue.qsize(), MAX_GROUPED - 1)):
            assert operation is not None  # None is the last that is ever put
            batch.setdefault(operation[0], []).append(operation)
            operation = self._queue.get_nowait()
        if operation is None:
            return batch, True
        batch.setdefault(operation[0], []).append(operation)
        return batch, False

    def _perform(self, database: Database, operations: list[_Operation]) -> list[_Outcome]:
        to_do = [operation for operation in operations if operation[1] is not None]
        outcomes = self._transaction(database, to_do) if to_do else []
        if len(to_do) < len(operations):
            database.close()
            outcomes += [(future, None, None) for _, work, _, future in operations if work is None]
        return outcomes

    def _transaction(self, database: Database, operations: list[_Operation]) -> list[_Outcome]:
        """Run operations in one transaction; where that fails, each in one of its own."""
        self.transactions += 1
        try:
            database.begin()
        except Exception as error:  # noqa: BLE001 - told to those who wait
            database.rollback()
            failure = database.failure(error)
            return [(future, None, failure) for _, _, _, future in operations]
        try:
            outcomes: list[_Outcome] = [
                (future, work(*args), None) for _, work, args, future in operations if work is not None
            ]
            point("journal.commit")
            database.commit()
            point("journal.committed")
        except Exception as error:  # noqa: BLE001 - told to the one who waits
            database.rollback()
            if len(operations) == 1:
                return [(operations[0][3], None, database.failure(error))]
            return [outcome for operation in operations for outcome in self._transaction(database, [operation])]
        return outcomes
