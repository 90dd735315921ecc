"""From the file of every earlier release to the tables of this one."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from pathlib import Path

import pytest

from hermes_actors.disk.sqlite import migrate
from workers.store.packing import kept_origin, origin_of
from workers.store.schema import MIGRATIONS
from workers.turns import Origin

RELEASED = (
    "ee3620694ed96947",
    "a0efd7fdf4f49683",
    "67f49ec5157ab229",
    "3727e500f7f138f2",
    "02ba6682f6a0da57",
    "cb317279ee2b885d",
)  # of each migration, in order; a new one adds its own


def tables(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def file_of_version(path: Path, version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for migration in MIGRATIONS[:version]:
        for statement in migration:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_a_file_of_every_version_gets_the_tables_of_this_release(tmp_path: Path, version: int) -> None:
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrate(fresh, MIGRATIONS)
    old = file_of_version(tmp_path / "03.db", version)

    migrate(old, MIGRATIONS)

    assert tables(old) == tables(fresh) != []
    assert old.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    old.close()
    fresh.close()


def test_a_released_migration_is_never_edited() -> None:
    digests = tuple(blake2b("\0".join(statements).encode(), digest_size=8).hexdigest() for statements in MIGRATIONS)

    assert digests == RELEASED


def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    broken = ("CREATE TABLE added (x)", "this is no SQL")
    connection = file_of_version(tmp_path / "03.db", len(MIGRATIONS))
    before = tables(connection)

    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, broken))

    assert tables(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


@pytest.mark.parametrize(
    ("kept", "origin"),
    [
        ({"ingress": "http", "request_id": "mine"}, Origin(ingress="http", request_id="mine")),
        ({"ingress": "http", "request_id": "r", "user": "eve"}, Origin(ingress="http", request_id="r", user="eve")),
        ({}, Origin(ingress="", request_id="")),
    ],
)
def test_an_origin_that_an_earlier_release_wrote_is_read(kept: dict[str, str], origin: Origin) -> None:
    assert origin_of({**kept}) == origin


def test_an_origin_of_the_http_api_is_written_as_earlier_releases_wrote_it() -> None:
    assert kept_origin(Origin(ingress="http", request_id="r")) == {"ingress": "http", "request_id": "r"}
