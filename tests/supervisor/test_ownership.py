"""Whose home it is, and what in it others could read, write or lead elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hermes_actors import logs
from hermes_actors.home import Home
from hermes_actors.supervisor import ownership
from hermes_actors.supervisor.home_lock import HomeUnusable, hold

OTHER = 4711  # a user id that is not ours

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(home_root: Path) -> Home:
    home = Home(home_root)
    home.make()
    return home


# -- homes of other users ----------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("part", ["", "state", "state/shards", "run", "logs"])
def test_root_holds_no_home_of_which_a_part_is_another_users(home: Home, part: str) -> None:
    foreign = home.root / part
    os.chown(foreign, OTHER, OTHER)
    foreign.chmod(0o777)

    with pytest.raises(HomeUnusable, match=f"{foreign} belongs to another user \\({OTHER}\\)"), hold(home):
        pass

    assert mode(foreign) == 0o777, "nothing was changed"


@as_root
def test_root_holds_no_home_behind_a_link_that_another_user_may_turn_elsewhere(home: Home) -> None:
    link = home.root.with_name(f"{home.root.name}-link")
    link.symlink_to(home.root)
    try:
        with hold(Home(link)):
            pass
        os.lchown(link, OTHER, OTHER)
        with pytest.raises(HomeUnusable, match="belongs to another user"), hold(Home(link)):
            pass
    finally:
        link.unlink()


@as_root
def test_root_acts_as_the_owner_of_a_home_and_is_root_again(home: Home) -> None:
    os.chown(home.root, OTHER, OTHER)

    with ownership.as_owner(home):
        (home.root / "made").touch()
        assert os.geteuid() == OTHER

    assert (home.root / "made").stat().st_uid == OTHER
    assert os.geteuid() == 0


def test_an_own_home_is_acted_on_as_who_one_is(home: Home) -> None:
    with ownership.as_owner(home):
        assert os.geteuid() == home.root.stat().st_uid


# -- what stands there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "state/registry.db",
        "state/registry.db-wal",
        "state/restart_failures.json",
        "state/restart_failures.json.lock",
        "state/shards/03.db",
        "run/supervisor.pid",
        "logs/supervisor.log",
        "logs/supervisor.log.1",
        "logs/mcp-files.log",
    ],
)
@pytest.mark.parametrize("open_to", [0o666, 0o640, 0o604])
def test_a_file_that_is_open_to_others_is_closed_to_them(home: Home, name: str, open_to: int) -> None:
    file = home.root / name
    file.write_text("kept")
    file.chmod(open_to)

    with hold(home):
        assert mode(file) & 0o077 == 0

    assert not file.exists() or file.read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["run/supervisor.pid", "logs/supervisor.log", "logs/worker-0.log", "run/worker-0.sock"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_a_file_that_is_made_again_is_not_followed(
    home: Home, home_root: Path, name: str, there: bool
) -> None:
    target = home_root / "somewhere"
    if there:
        target.write_text("mine")
    (home.root / name).symlink_to(target)

    with hold(home):
        assert not (home.root / name).is_symlink()

    assert target.exists() == there
    assert not there or target.read_text() == "mine"


@pytest.mark.parametrize("name", ["registry.db", "shards/03.db", "restart_failures.json", "restart_failures.json.lock"])
def test_a_link_in_the_place_of_what_is_kept_is_refused_in_words(home: Home, home_root: Path, name: str) -> None:
    (home_root / "somewhere").write_text("mine")
    (home.root / "state" / name).symlink_to(home_root / "somewhere")

    with pytest.raises(HomeUnusable, match=f"{name} is a symbolic link"), hold(home):
        pass

    assert (home_root / "somewhere").read_text() == "mine"


def test_directories_may_be_links_to_another_disk(home: Home, home_root: Path) -> None:
    (home_root / "disk").mkdir()
    home.shards.rmdir()
    home.shards.symlink_to(home_root / "disk")
    (home_root / "disk" / "03.db").touch(0o666)

    with hold(home):
        assert mode(home_root / "disk" / "03.db") & 0o077 == 0


def test_a_log_is_not_written_where_a_link_leads_that_came_later(home: Home, home_root: Path) -> None:
    (home.logs / "supervisor.log").symlink_to(home_root / "somewhere")
    file = logs._PrivateFile(home.logs / "supervisor.log", delay=True)

    with pytest.raises(OSError, match="symbolic links"):
        file._open()

    assert not (home_root / "somewhere").exists()
