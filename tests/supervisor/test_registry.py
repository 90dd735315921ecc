"""The session registry and shard table on real files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest
from fakes.marking import add as add_session
from fakes.marking import new_id

from hermes_actors.core.sessions import marks
from hermes_actors.core.sessions.book import BadCursor
from hermes_actors.core.state import NEVER_RESTARTED, ActorRecord, Owner
from hermes_actors.disk import sqlite
from hermes_actors.disk.sqlite import is_damage, mark_suspect
from hermes_actors.home import Home
from hermes_actors.records import registry_file
from hermes_actors.records.registry import Registry, ShardsFixed, find_sessions
from hermes_actors.records.registry_file import RegistryUnusable, check
from hermes_actors.wire.sharding import shard_of

DIGESTS = [
    "b518f6bc0dfe4ebc",
    "470454785b6db494",
    "3b5b5b649fedc683",
]  # of the released migrations, which no release may edit


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


def opened(home: Home, shards: int | None = None) -> Registry:
    return Registry.open(home, shards=shards, usual_shards=8, durability="process")


@pytest.fixture
def registry(home: Home) -> Iterator[Registry]:
    with closing(opened(home)) as registry:
        yield registry


def add(registry: Registry, key: str, now: float = 1.0) -> str:
    return add_session(registry, key, key.split(":")[1], shard_of(key, 8), now).session_id


def keys(registry: Registry, principal: str | None = None, *, limit: int = 10) -> list[str]:
    """All keys, page by page."""
    found, after = [], None
    while True:
        entries, after = registry.page(principal, after, limit)
        found += [entry.key for entry in entries]
        if after is None:
            return found


def test_a_session_is_found_again_after_the_commit_and_a_new_start(home: Home) -> None:
    with closing(opened(home)) as first:
        session_id = add(first, "api:a:1", 5.0)
        first.commit()
    with closing(opened(home)) as second:
        entry = second.session("api:a:1")
        assert entry is not None
        assert (entry.session_id, entry.principal, entry.created_at) == (session_id, "a", 5.0)
        assert second.session("api:a:2") is None


def test_what_was_not_committed_is_gone(home: Home) -> None:
    with closing(opened(home)) as first:
        add(first, "api:a:1")
    with closing(opened(home)) as second:
        assert second.session("api:a:1") is None
        assert second.count() == 0


def test_the_count_follows_what_is_added_and_forgotten(registry: Registry) -> None:
    for n in range(3):
        add(registry, f"api:a:{n}")
    assert registry.forget("api:a:1") is True
    assert registry.forget("api:a:1") is False

    assert registry.count() == 2


def test_pages_hold_every_session_once_the_newest_activity_first(registry: Registry) -> None:
    for n in range(25):
        add(registry, f"api:a:{n:02}", now=float(n // 2))  # some at the same time
    add(registry, "api:b:other", now=100.0)

    everybodys = keys(registry)
    assert everybodys[0] == "api:b:other"
    assert keys(registry, "a") == everybodys[1:] == [f"api:a:{n:02}" for n in reversed(range(25))]
    assert keys(registry, "nobody") == []


def test_activity_moves_a_session_to_the_front_and_never_back(registry: Registry) -> None:
    for n in range(3):
        add(registry, f"api:a:{n}", now=10.0)

    registry.touch({"api:a:0": 20.0, "api:a:2": 5.0, "api:a:unknown": 30.0}, 40.0)

    assert keys(registry) == ["api:a:0", "api:a:2", "api:a:1"]


def test_a_session_of_a_clock_that_ran_ahead_is_of_now_and_falls_behind_newer_ones(registry: Registry) -> None:
    for n, at in enumerate((1000.0, 10.0, 500.0)):
        add(registry, f"api:a:{n}", now=at)
    registry.write_marks("api:a:0", "ses_1", marks.cut(marks.UNMARKED, "crash", "turn_1", 1000.0))

    registry.set_right(20.0)
    registry.touch({"api:a:1": 21.0, "api:a:unknown": 21.0}, 22.0)

    assert keys(registry) == ["api:a:1", "api:a:2", "api:a:0"]
    ahead = registry.session("api:a:0")
    assert ahead is not None
    assert (ahead.created_at, ahead.last_active_at, ahead.marks.at) == (20.0, 20.0, 20.0)


def test_activity_is_never_noted_ahead_of_now(registry: Registry) -> None:
    for n in range(3):
        add(registry, f"api:a:{n}", now=10.0)
    registry.touch({"api:a:0": 900.0}, 900.0)

    registry.touch({"api:a:1": 900.0, "api:a:2": 20.0}, 20.0)

    entries, _ = registry.page(None, None, 5)
    assert {entry.last_active_at for entry in entries} == {20.0}


@pytest.mark.parametrize("cursor", ["", "!", "bm9uc2Vuc2U", "ΔΔ", "bmFuIA=="])
def test_a_cursor_that_is_none_is_refused(registry: Registry, cursor: str) -> None:
    with pytest.raises(BadCursor):
        registry.page(None, cursor, 5)


def test_a_session_is_found_by_its_key_or_the_end_of_it(home: Home, registry: Registry) -> None:
    for key in ("api:a:work", "api:b:work", "work", "api:a:100%_done"):
        add_session(registry, key, "x", shard_of(key, 8), 1.0)
    registry.commit()

    assert [entry.key for entry in find_sessions(home.registry, "work", 5)] == ["work"]
    assert [entry.key for entry in find_sessions(home.registry, "a:work", 5)] == ["api:a:work"]
    assert [entry.key for entry in find_sessions(home.registry, "100%_done", 5)] == ["api:a:100%_done"]
    assert find_sessions(home.registry, "%", 5) == ()
    assert find_sessions(home.registry, "ork", 5) == (), "a part of a name is none"
    add_session(registry, "api:b:100%_done", "x", shard_of("api:b:100%_done", 8), 1.0)
    registry.commit()
    assert [len(find_sessions(home.registry, "100%_done", most)) for most in (1, 5)] == [1, 2]


def test_what_became_of_an_actor_is_kept_and_found(home: Home) -> None:
    record = ActorRecord(3, 2, "turn_1 succeeded on fallback", 7.5, "turn_1")
    with closing(opened(home)) as first:
        add(first, "api:a:1")
        write_actor(first, "api:a:1", record)
        write_actor(first, "api:a:2", record)
        first.commit()
    with closing(opened(home)) as second:
        entry = second.session("api:a:1")
        assert entry is not None
        assert entry.actor == record
        assert find_sessions(home.registry, "1", 5) == (entry,)
        assert second.session("api:a:2") is None


def write_actor(registry: Registry, key: str, actor: ActorRecord) -> None:
    entry = registry.session(key)
    if entry is not None:
        registry.write(replace(entry, actor=actor))


def test_session_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id(1_700_000_000 + n) for n in range(100)]

    assert ids == sorted(set(ids))
    assert all(len(one) == 36 and one.startswith("ses_") for one in ids)


def test_a_session_id_sorts_after_those_before_it_although_the_clock_was_set_back() -> None:
    before = new_id(1_700_000_000)

    assert new_id(1_600_000_000, before, None) > before
    assert new_id(1_700_000_000, before) > before
    assert new_id(1_700_000_000, "ses_of another make") > before[:16]


def test_the_shard_table_is_kept(home: Home) -> None:
    with closing(opened(home)) as first:
        assert {owner.slot for owner in first.owners()} == {-1}
        first.write_owners({3: Owner(1, 7), 0: Owner(0, 9)})
        first.commit()
        before = first.owners()
    with closing(opened(home)) as second:
        assert second.owners() == before
        assert second.owners()[3] == (1, 7)


def test_a_home_keeps_its_number_of_shards(home: Home) -> None:
    opened(home, shards=16).close()

    with closing(opened(home)) as registry:
        assert len(registry.owners()) == 16
    with pytest.raises(ShardsFixed, match="set it to 16 or to auto"):
        opened(home, shards=32)


def test_a_home_keeps_its_id(home: Home) -> None:
    opened(home).close()
    with closing(opened(home)) as first, closing(opened(home)) as second:
        assert first.home_id == second.home_id != ""


# -- migrations --------------------------------------------------------------------------------------------------------


def test_the_sessions_of_the_first_schema_have_actors_that_were_never_restarted(home: Home) -> None:
    with closing(sqlite3.connect(home.registry)) as database:
        database.executescript(f"{registry_file.MIGRATIONS[0]} PRAGMA user_version = 1;")
        database.execute("INSERT INTO meta VALUES ('home', 'h'), ('shards', 8)")
        database.execute("INSERT INTO sessions VALUES ('api:a:1', 'ses_1', 'a', 3, 1.0, 2.0)")
        database.commit()

    with closing(opened(home)) as registry:
        entry = registry.session("api:a:1")
        assert entry is not None
        assert (entry.session_id, entry.last_active_at, entry.actor) == ("ses_1", 2.0, NEVER_RESTARTED)
        assert registry.set_aside is None
        write_actor(registry, "api:a:1", ActorRecord(restarts=1))
        add(registry, "api:a:2")
        registry.commit()
        assert registry.count() == 2


def test_a_migration_that_was_released_is_not_edited() -> None:
    digests = [blake2b(script.encode(), digest_size=8).hexdigest() for script in registry_file.MIGRATIONS]

    assert digests[: len(DIGESTS)] == DIGESTS


def test_an_older_schema_is_brought_to_the_present_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(opened(home)) as old:
        add(old, "api:a:1")
        old.commit()
    more = "ALTER TABLE sessions ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"
    monkeypatch.setattr(registry_file, "MIGRATIONS", (*registry_file.MIGRATIONS, more))

    with closing(opened(home)) as new:
        assert new.session("api:a:1") is not None
    with closing(sqlite3.connect(home.registry)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(registry_file.MIGRATIONS),)
        assert database.execute("SELECT note FROM sessions").fetchone() == ("none",)


def test_a_registry_of_a_newer_release_is_left_alone(home: Home) -> None:
    opened(home).close()
    with closing(sqlite3.connect(home.registry)) as database:
        database.execute("PRAGMA user_version = 99")

    with pytest.raises(RegistryUnusable, match="version 99 of its tables"):
        opened(home)

    assert not list(home.registry.parent.glob("*.corrupt-*"))


def test_a_registry_that_cannot_be_opened_is_not_taken_for_a_broken_one(home: Home) -> None:
    home.registry.symlink_to(home.registry.name)

    with pytest.raises(RegistryUnusable):
        opened(home)


def test_what_is_no_file_is_set_aside_and_the_registry_made_anew(home: Home) -> None:
    home.registry.mkdir()

    with closing(opened(home)) as registry:
        assert registry.set_aside is not None
        assert registry.set_aside.is_dir()
        assert registry.behind is not None


def test_a_database_of_something_else_is_set_aside_whatever_version_it_says(home: Home) -> None:
    with closing(sqlite3.connect(home.registry)) as other:
        other.executescript("CREATE TABLE notes (x); PRAGMA user_version = 999;")

    with closing(opened(home)) as registry:
        assert registry.set_aside is not None


def test_a_new_home_lost_nothing_and_one_without_its_registry_did(home: Home) -> None:
    with closing(opened(home)) as registry:
        assert (registry.behind, registry.losses.latest(9)) == (None, ())
    home.registry.unlink()

    with closing(opened(home, shards=None)) as registry:
        (loss,) = registry.losses.latest(9)
        assert (loss.shard, loss.what, loss.why) == (None, "names", "its file was missing")
        assert registry.losses.known(3).fence == 1, "each shard had an owner, as far as anybody knows"


def test_a_registry_that_lost_some_of_its_shards_gets_them_back_under_higher_fences(home: Home) -> None:
    with closing(opened(home)) as registry:
        before = registry.owners()
    with sqlite3.connect(home.registry) as database:
        database.execute("DELETE FROM shards WHERE shard > 4")
    database.close()

    with closing(opened(home)) as registry:
        assert len(registry.owners()) == len(before)
        assert registry.behind is not None


# -- damage ------------------------------------------------------------------------------------------------------------


def filled(home: Home, count: int) -> tuple[Owner, ...]:
    with closing(opened(home)) as registry:
        for n in range(count):
            add(registry, f"api:a:{n:06}", now=float(n))
        registry.write_owners({0: Owner(0, 12)})
        registry.commit()
        return registry.owners()


def test_a_file_that_is_no_database_is_set_aside_and_made_anew_with_higher_fences(home: Home) -> None:
    before = filled(home, 3)
    home.registry.write_bytes(b"not a database at all" * 1000)
    home.facts.unlink()
    (home.shards / "00.db").touch()
    (home.shards / "15.db").touch()

    with closing(opened(home)) as registry:
        assert registry.set_aside is not None
        assert registry.set_aside.read_bytes().startswith(b"not a database")
        assert registry.count() == 0
        assert len(registry.owners()) == 16, "the shard files tell how many there are"
        assert min(owner.fence for owner in registry.owners()) > 12
        assert min(owner.fence for owner in registry.owners()) >= max(owner.fence for owner in before)
    with closing(opened(home)) as registry:
        assert registry.set_aside is None


@pytest.mark.parametrize("version", range(1, len(registry_file.MIGRATIONS) + 1))
def test_the_sessions_that_a_damaged_file_still_has_are_saved(
    home: Home, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    with monkeypatch.context() as earlier, closing(sqlite3.connect(home.registry)) as database:
        earlier.setattr(registry_file, "MIGRATIONS", registry_file.MIGRATIONS[:version])
        registry_file._migrate(database)
        database.execute("INSERT INTO meta VALUES ('home', 'h'), ('shards', 8)")
        rows = [
            (key := f"api:a:{n:06}", f"ses_{n:032}", "a", shard_of(key, 8), float(n), float(n)) for n in range(2000)
        ]
        columns = registry_file.ENTRY
        database.executemany(f"INSERT INTO sessions ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)  # own words
        database.commit()
    with home.registry.open("r+b") as file:
        file.seek(home.registry.stat().st_size // 2)
        file.write(b"\xde\xad" * 2048)

    with closing(opened(home)) as registry:
        assert registry.set_aside is not None
        assert registry.count() > 500
        assert len(keys(registry, limit=500)) == registry.count()
        entry = registry.session("api:a:000000")
        assert entry is not None
        assert entry.created_at == 0.0


def test_the_marks_that_a_damaged_file_still_has_are_saved(home: Home) -> None:
    suspended = marks.begin_afresh(marks.suspend(marks.cut(marks.UNMARKED, "crash", "turn_1", 5.0), 6.0), "ses_old")
    filled(home, 2000)
    with closing(opened(home)) as registry:
        registry.write_marks("api:a:000000", "ses_1", marks.cut(marks.UNMARKED, "crash", "turn_1", 5.0))
        registry.write_marks("api:a:001999", "ses_2", suspended)
        registry.commit()
    with home.registry.open("r+b") as file:
        file.seek(home.registry.stat().st_size // 2)
        file.write(b"\xde\xad" * 2048)

    with closing(opened(home)) as registry:
        first, last = registry.session("api:a:000000"), registry.session("api:a:001999")
        assert registry.set_aside is not None
        assert first is not None
        assert last is not None
        assert (first.marks.standing, first.marks.turn_id) == ("resume_pending", "turn_1")
        assert (last.session_id, last.marks) == ("ses_2", suspended)


def test_damage_in_a_large_file_is_found_beside_the_work_and_mended_at_the_next_start(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(home, 2000)
    monkeypatch.setattr(sqlite, "CHECKED_WHOLE_BYTES", 1000)
    assert check(home.registry) is None
    with home.registry.open("r+b") as file:
        file.seek(home.registry.stat().st_size // 2)
        file.write(b"\xde\xad" * 2048)

    with closing(opened(home)) as registry:
        assert registry.set_aside is None, "a start does not read the whole of a large file"
        assert check(home.registry)
    with closing(opened(home)) as registry:
        assert registry.set_aside is not None


def test_a_suspicion_that_proves_wrong_is_dropped(home: Home) -> None:
    filled(home, 1)
    mark_suspect(home.registry)

    with closing(opened(home)) as registry:
        assert registry.set_aside is None
        assert registry.count() == 1
    assert not list(home.registry.parent.glob("*.suspect"))


def test_a_full_disk_is_no_damage() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    assert not is_damage(full)
    assert not is_damage(ValueError("other"))


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_sessions_are_paged_without_reading_them_all(home: Home) -> None:
    with closing(opened(home)) as registry:
        rows = ((f"api:p{n % 10}:{n:06}", f"ses_{n}", f"p{n % 10}", 0, float(n), float(n)) for n in range(100_000))
        registry._database.write_many(f"INSERT INTO sessions ({registry_file.ENTRY}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        registry.commit()
        steps = 0

        def counted() -> None:
            nonlocal steps
            steps += 1

        registry._database._connection.set_progress_handler(counted, 100)
        deep = registry.page("p3", None, 1000)[1]
        for _ in range(5):
            entries, deep = registry.page("p3", deep, 1000)
        assert entries[0].key == "api:p3:049993"
        registry.page(None, deep, 100)
        registry.session("api:p3:000003")
        registry.count()

        # 100 instructions of SQLite's machine a step: 6,100 rows cost about that many times ten, a scan 20 times more.
        assert steps < 5_000
