"""The registry's database as the rest of this room uses it, and how it fails in the words of any database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from hermes_actors.disk import sqlite

T = TypeVar("T")

Row = tuple[Any, ...]
Values = Sequence[Any]


class RegistryFailed(Exception):
    """The registry could not be read or written.

    Attributes:
        is_damaged: its content is bad; else its disk, space or permissions did not allow it.
        is_short_of_space: the disk cannot be written now: full, failing, read-only, or another process has the file.
    """

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(str(error))
        self.is_damaged = sqlite.is_damage(error)
        self.is_short_of_space = sqlite.is_short_of_space(error)


class RegistryDatabase:
    """A connection whose transaction begins with the first write. Any one thread at a time may use it.

    Every method raises RegistryFailed where the database does not do what it is asked.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """What a query finds."""
        return translated(lambda: self._connection.execute(statement, values).fetchall())

    def row(self, statement: str, values: Values = ()) -> Row | None:
        """The first row that a query finds, or None."""
        found: Row | None = translated(lambda: self._connection.execute(statement, values).fetchone())
        return found

    def each(self, query: str) -> Iterator[Row]:
        """What a query finds, row by row, up to where the database is damaged."""
        cursor = translated(lambda: self._connection.execute(query))
        while (row := translated(cursor.fetchone)) is not None:
            yield row

    def write(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        """Change rows; the cursor says how many, and the number of a new one."""
        self.begin()
        return translated(lambda: self._connection.execute(statement, values))

    def write_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Change rows, once for each list of values."""
        self.begin()
        translated(lambda: self._connection.executemany(statement, rows))

    def set_pragma(self, name: str, value: int) -> None:
        """Set what this connection does, outside of every transaction."""
        translated(lambda: self._connection.execute(f"PRAGMA {name} = {value}"))

    def version(self) -> int:
        """How many migrations it has been through."""
        return translated(lambda: sqlite.version_of(self._connection))

    def check(self) -> str | None:
        """What is wrong with it, or None; reads all of it."""
        return translated(lambda: sqlite.check(self._connection))

    @property
    def in_transaction(self) -> bool:
        """Whether something was written since the last commit."""
        return self._connection.in_transaction

    @property
    def changes(self) -> int:
        """How many rows were changed so far; it only grows."""
        return self._connection.total_changes

    def begin(self) -> None:
        """Begin a transaction where none is open."""
        if not self._connection.in_transaction:
            translated(lambda: self._connection.execute("BEGIN IMMEDIATE"))

    def commit(self) -> None:
        """Make what was written durable."""
        translated(lambda: self._connection.execute("COMMIT"))

    def rollback(self) -> None:
        """Undo what was written since the last commit."""
        translated(lambda: self._connection.execute("ROLLBACK"))

    def close(self) -> None:
        """Close it; what was not committed is gone."""
        self._connection.close()


def translated(work: Callable[[], T]) -> T:
    """Do something with a connection; its errors are RegistryFailed."""
    try:
        return work()
    except sqlite3.Error as error:
        raise RegistryFailed(error) from error
