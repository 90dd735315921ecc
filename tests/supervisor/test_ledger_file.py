"""The ledger on disk: whole after every kill, locked against others, and never in the way of a start."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.sessions.ledger import CAUSES_KEPT, Cause, Entry, Ledger, clear, cut
from hermes_actors.records.ledger_file import (
    LedgerCorrupt,
    LedgerFile,
    LedgerHeld,
    LedgerNewer,
    LedgerNotWritten,
    LedgerUnlockable,
    LedgerUnreadable,
    read,
)
from hermes_actors.wire.records import CutTurn

NOBODY = 65534
KILLS = 18
AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC).timestamp()
NONE = Ledger()
ONE = cut(NONE, [CutTurn("api:default:a", "turn_1")], "restart_timeout", AT)
TWO = cut(ONE, [CutTurn("api:default:a", "turn_2"), CutTurn("api:default:b", "turn_3")], "crash", AT)

entries = st.builds(
    Entry,
    count=st.integers(1, 2**31 - 1),
    causes=st.lists(st.sampled_from(get_args(Cause)), min_size=1, max_size=CAUSES_KEPT).map(tuple),
    last_cut=st.text(),
    last_at=st.integers(0, 253_370_764_799_999).map(lambda ms: ms / 1000),
)
ledgers = st.dictionaries(st.text(), entries).map(Ledger)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "restart_failures.json"


@pytest.fixture
def file(path: Path) -> Iterator[LedgerFile]:
    with closing(LedgerFile.open(path)) as opened:
        yield opened


def beside(path: Path) -> set[str]:
    """What is in the directory but the file and its lock."""
    return {found.name for found in path.parent.iterdir()} - {path.name, f"{path.name}.lock"}


# -- what is written --------------------------------------------------------------------------------------------------


def test_the_file_has_the_published_form(file: LedgerFile) -> None:
    file.commit(TWO)

    assert json.loads(file.path.read_text()) == {
        "version": 1,
        "sessions": {
            "api:default:a": {
                "count": 2,
                "causes": ["restart_timeout", "crash"],
                "last_cut": "turn_2",
                "last_at": "2026-03-01T12:00:00.250000Z",
            },
            "api:default:b": {
                "count": 1,
                "causes": ["crash"],
                "last_cut": "turn_3",
                "last_at": "2026-03-01T12:00:00.250000Z",
            },
        },
    }


def test_each_session_has_its_line(file: LedgerFile) -> None:
    file.commit(TWO)

    assert [line.partition(":{")[0] for line in file.path.read_text().splitlines()[1:-1]] == [
        '"api:default:a"',
        '"api:default:b"',
    ]


@given(st.lists(ledgers, max_size=2))
def test_what_was_committed_is_read_again_by_others_and_by_the_next_holder(versions: list[Ledger]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.json"
        last = NONE
        with closing(LedgerFile.open(path)) as file:
            for last in versions:
                file.commit(last)
                assert file.ledger == read(path) == last
        with closing(LedgerFile.open(path)) as file:
            assert (file.ledger, file.aside, file.fault) == (last, None, None)


def test_the_file_and_its_lock_are_private(file: LedgerFile) -> None:
    file.commit(ONE)

    assert {found.stat().st_mode & 0o777 for found in file.path.parent.iterdir()} == {0o600}


def test_nothing_is_written_where_nothing_changed(file: LedgerFile) -> None:
    file.commit(NONE)
    assert not file.path.exists()
    file.commit(ONE)
    written = file.path.stat().st_ino

    file.commit(cut(ONE, [CutTurn("api:default:a", "turn_1")], "crash", AT + 1))
    file.commit(Ledger(dict(ONE.entries)))

    assert file.path.stat().st_ino == written


def test_the_content_is_on_disk_before_it_is_the_file_and_its_name_before_the_commit_returns(
    file: LedgerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.commit(ONE)
    synced: list[tuple[str, Ledger]] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, read(file.path)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    file.commit(TWO)

    assert synced == [(f"{file.path.name}.tmp", ONE), (file.path.parent.name, TWO)]


# -- commits that fail ------------------------------------------------------------------------------------------------


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_nothing_that_was_committed_and_the_next_commit_has_it_all(file: LedgerFile) -> None:
    file.commit(ONE)
    more = cut(TWO, (CutTurn(f"s{n}", "turn_1") for n in range(1000)), "crash", AT)

    with room_for(10_000), pytest.raises(LedgerNotWritten, match=r"restart_failures\.json cannot be written: File too"):
        file.commit(more)

    assert file.ledger == read(file.path) == ONE
    assert beside(file.path) == set()
    file.commit(more)
    assert file.ledger == read(file.path) == more


@pytest.mark.parametrize("failing", [1, 2], ids=["draft", "directory"])
def test_after_a_failed_sync_even_the_earlier_ledger_is_written_anew(
    failing: int, file: LedgerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.commit(ONE)
    calls = count(1)

    def fsync(descriptor: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LedgerNotWritten, match="Input/output error"):
        file.commit(TWO)
    file.commit(ONE)

    assert read(file.path) == ONE
    assert next(calls) == failing + 3


def test_a_closed_file_is_not_written(file: LedgerFile) -> None:
    file.close()

    with pytest.raises(ValueError, match="is closed"):
        file.commit(ONE)


# -- other processes --------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from hermes_actors.records.ledger_file import LedgerFile
file = LedgerFile.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_kept_out_but_may_read_and_a_killed_one_leaves_the_lock_free(path: Path) -> None:
    with closing(LedgerFile.open(path)) as file:
        file.commit(ONE)
    with subprocess.Popen(
        (sys.executable, "-c", HOLDER, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(LedgerHeld, match="held by another process"):
            LedgerFile.open(path, timeout_s=0.0)
        assert read(path) == ONE
        holder.kill()
        holder.wait()

    with closing(LedgerFile.open(path, timeout_s=0.0)) as file:
        assert file.ledger == ONE


def test_a_second_opening_in_the_same_process_is_kept_out_too(file: LedgerFile) -> None:
    with pytest.raises(LedgerHeld):
        LedgerFile.open(file.path, timeout_s=0.0)


def test_a_process_that_is_killed_while_it_commits_leaves_a_whole_file_with_all_it_acknowledged(path: Path) -> None:
    subprocess.run((sys.executable, __file__, str(path)), timeout=60, check=True)  # forks well: it has one thread

    assert read(path).count("s0") >= KILLS


def commit_until_killed(path: Path, say: Callable[[int | None], None]) -> None:
    """One strike more for many sessions with each commit; says their count then, and None where a sync begins."""
    fsync = os.fsync

    def said(descriptor: int) -> None:
        say(None)
        fsync(descriptor)

    pytest.MonkeyPatch().setattr(os, "fsync", said)
    file = LedgerFile.open(path)
    for strikes in count(file.ledger.count("s0") + 1):
        file.commit(cut(file.ledger, (CutTurn(f"s{n}", f"turn_{strikes}") for n in range(200)), "crash", AT))
        say(strikes)


def kill_again_and_again(path: Path) -> None:
    """Each round one word later: while the draft is synced, while its directory is, or after the commit."""
    fork = multiprocessing.get_context("fork")
    for words in range(1, KILLS + 1):
        before = read(path).count("s0")
        heard, say = fork.Pipe(duplex=False)
        writer = fork.Process(target=commit_until_killed, args=(path, say.send))
        writer.start()
        say.close()
        said = [heard.recv() for _ in range(words)]
        writer.kill()
        writer.join()
        with suppress(EOFError):
            while True:
                said.append(heard.recv())
        acknowledged = max((strikes for strikes in said if strikes), default=before)
        ledger = read(path)
        assert len(ledger.entries) in (0, 200)
        assert {entry.count for entry in ledger.entries.values()} <= {acknowledged, acknowledged + 1}
        assert acknowledged == 0 or ledger.entries


# -- what is found at a start -----------------------------------------------------------------------------------------


def test_a_half_draft_and_a_lock_that_a_killed_process_left_are_never_in_the_way(path: Path) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_bytes(b'{"version":1,"sess')
    draft.chmod(0o400)
    path.with_name(f"{path.name}.lock").write_text("4711")

    with closing(LedgerFile.open(path, timeout_s=0.0)) as file:
        file.commit(ONE)

    assert read(path) == ONE
    assert beside(path) == set()


CORRUPT = {
    "empty": (b"", "EOF"),
    "zeros": (bytes(512), "expected value"),
    "half": (b'{"version":1,"sessions":{\n"api:default:a":{"count":1,"ca', "EOF"),
    "not utf-8": (b'{"version":1,"sessions":{"\xff":{}}}', "Invalid JSON"),
    "deep": (b"[" * 100_000, "recursion limit"),
    "list": (b"[]", "object"),
    "no version": (b'{"sessions":{}}', "version: Field required"),
    "version in words": (b'{"version":"1","sessions":{}}', "version: Input should be a valid integer"),
    "no sessions": (b'{"version":1}', "sessions: Field required"),
    "counts alone": (b'{"version":1,"sessions":{"s":2}}', "sessions.s: Input should be an object"),
}
ROW = {"count": 2, "causes": ["crash"], "last_cut": "turn_1", "last_at": "2026-03-01T12:00:00Z"}
WRONG: dict[str, list[object]] = {
    "count": [0, -1, 1.5, True, "2", 2**31, 10**400, None],
    "causes": ["crash", [], ["bored"], [1], {}, None],
    "last_cut": [7, None],
    "last_at": [1_772_366_400, "yesterday", "2026-03-01T12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"],
}


@pytest.mark.parametrize(("content", "why"), CORRUPT.values(), ids=CORRUPT.keys())
def test_what_is_no_ledger_is_set_aside_and_the_gateway_goes_on_with_an_empty_one(
    content: bytes, why: str, path: Path
) -> None:
    path.write_bytes(content)

    with closing(LedgerFile.open(path)) as file:
        assert file.ledger == NONE
        assert file.aside is not None
        assert why in file.aside.why
        assert file.aside.path.name.startswith("restart_failures.json.corrupt-20")
        file.commit(ONE)

    assert read(path) == ONE
    assert file.aside.path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=repr
)
def test_the_place_of_a_fault_is_named_but_not_what_stands_there(name: str, value: object, path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "sessions": {"api:a:1": ROW, "api:a:2": {**ROW, name: value}}}))

    with pytest.raises(LedgerCorrupt, match=rf"restart_failures\.json is not a ledger: sessions\.api:a:2\.{name}"):
        read(path)


def test_two_files_that_are_corrupt_within_a_second_are_both_kept(path: Path) -> None:
    for content in (b"first", b"second"):
        path.write_bytes(content)
        LedgerFile.open(path).close()

    assert {(path.parent / name).read_bytes() for name in beside(path)} == {b"first", b"second"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["crash", "2026-03-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "s"]), inner, max_size=4),
    max_leaves=12,
)
shaped = st.fixed_dictionaries(
    {"version": st.sampled_from([1, 1, 1, 2]) | json_values, "sessions": st.dictionaries(st.text(), json_values)}
)
edited = st.builds(
    lambda row, name, value: {"version": 1, "sessions": {"s": {**row, name: value}}},
    st.just(ROW),
    st.sampled_from([*ROW, "note"]),
    json_values,
)
contents = st.binary(max_size=200) | st.builds(json.dumps, shaped | edited).map(str.encode)


@given(contents)
def test_any_bytes_are_a_ledger_or_set_aside_or_of_a_newer_release(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.json"
        path.write_bytes(content)
        try:
            file = LedgerFile.open(path)
        except LedgerNewer:
            assert path.read_bytes() == content
            return
        with closing(file):
            assert file.aside is None or file.aside.path.read_bytes() == content
            for wanted in (cut(file.ledger, [CutTurn("s", "turn_9")], "crash", AT), NONE):
                file.commit(wanted)
                assert read(path) == wanted


def test_every_truncation_of_a_ledger_is_found(path: Path) -> None:
    with closing(LedgerFile.open(path)) as file:
        file.commit(TWO)
    whole = path.read_bytes()

    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(LedgerCorrupt):
            read(path)


def test_what_people_wrote_beside_the_fields_is_passed_over_and_their_zone_understood(path: Path) -> None:
    row = {**ROW, "last_at": "2026-03-01T14:00:00+02:00", "note": "restarted by hand"}
    path.write_text(json.dumps({"version": 1, "by": "me", "sessions": {"s": row}}))

    assert read(path).entries["s"].last_at == datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def test_a_newer_releases_file_is_left_alone_and_strikes_are_only_remembered(path: Path) -> None:
    content = b'{"version":2,"strikes":[]}'
    path.write_bytes(content)

    with pytest.raises(LedgerNewer, match="has version 2, this release knows 1") as refused:
        LedgerFile.open(path)
    file = LedgerFile.remembered(path, refused.value)
    file.commit(ONE)
    file.close()

    assert (file.ledger, file.fault) == (ONE, refused.value)
    assert path.read_bytes() == content
    LedgerFile.open(path.with_name("other")).close()
    with pytest.raises(LedgerNewer):  # and not LedgerHeld: a refused opening keeps no lock
        LedgerFile.open(path, timeout_s=0.0)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file_is_unreadable_and_stays(make: Callable[[Path], None], path: Path) -> None:
    make(path)

    with pytest.raises(LedgerUnreadable, match="not a regular file"):
        LedgerFile.open(path)

    assert path.exists()


# -- what the disk allows ---------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of its own, and no rights above those of an ordinary user."""
    directory = Path(tempfile.mkdtemp())
    was = os.geteuid()
    if was == 0:
        os.chown(directory, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        os.seteuid(was)
        directory.chmod(0o700)
        shutil.rmtree(directory)


def test_a_file_that_may_not_be_read_is_left_alone(unprivileged: Path) -> None:
    path = unprivileged / "ledger.json"
    path.write_text("secret")
    path.chmod(0)

    with pytest.raises(LedgerUnreadable, match=r"ledger\.json cannot be read: Permission denied"):
        LedgerFile.open(path)

    assert path.exists()


def test_a_directory_that_may_not_be_written_gives_no_lock_but_may_be_read(unprivileged: Path) -> None:
    path = unprivileged / "ledger.json"
    path.write_text('{"version":1,"sessions":{}}')
    unprivileged.chmod(0o500)

    with pytest.raises(LedgerUnlockable, match=r"ledger\.json\.lock cannot be locked: Permission denied"):
        LedgerFile.open(path)

    assert read(path) == NONE


def test_a_corrupt_file_that_cannot_be_set_aside_is_unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"?")

    def refused(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(LedgerUnreadable, match="is corrupt and cannot be set aside: Read-only file system"):
        LedgerFile.open(path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_filesystem_without_locks_is_named_and_nothing_softer_is_used(
    code: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LedgerUnlockable, match="on a local disk"):
        LedgerFile.open(path)


def test_strikes_are_cleared_by_whoever_holds_the_lock_for_a_moment(path: Path) -> None:
    with closing(LedgerFile.open(path)) as supervisor:
        supervisor.commit(TWO)

    with closing(LedgerFile.open(path)) as operator:
        operator.commit(clear(operator.ledger, ["api:default:a"]))

    with closing(LedgerFile.open(path)) as supervisor:
        assert supervisor.ledger.entries.keys() == {"api:default:b"}


if __name__ == "__main__":
    kill_again_and_again(Path(sys.argv[1]))
