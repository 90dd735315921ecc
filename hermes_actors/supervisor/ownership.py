"""Whose home it is, and which files in it others could read, write, or have put there.

A gateway runs on a home of its own user only: it trusts the files there, and they may name programs to run. So root
does not start a gateway on the home of another user. ``hermes-ctl`` of root works on such a home as its owner.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from hermes_actors.home import PRIVATE_FILE, Home, user_name

ROOT = 0

log = structlog.get_logger(__name__)


class Foreign(Exception):
    """This user cannot run a gateway on a home, or on a part of it; ``str()`` says why, and what to do."""


def refuse_foreign(home: Home) -> None:
    """Check that a home belongs to this user, and is no link that another user may change.

    Raises:
        Foreign: it belongs to another user.
    """
    for path in home.directories:
        for found in _both(path):
            if found.st_uid not in (os.geteuid(), ROOT if stat.S_ISLNK(found.st_mode) else os.geteuid()):
                owner = user_name(found.st_uid)
                raise Foreign(
                    f"{path} belongs to another user ({owner}), and you are {user_name(os.geteuid())}; "
                    f"start the gateway as {owner}, or make the home yours: chown -R {user_name(os.geteuid())} {path}"
                )


def _both(path: Path) -> Iterator[os.stat_result]:
    """What is known of a path: of the link, where it is one, and of what it leads to."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield path.lstat()
        yield path.stat()


def make_private(home: Home) -> None:
    """Take the rights of others from the files in a home, and remove or refuse links in their places.

    A link in ``run`` or ``logs`` is removed: the files there are made again. A link in ``state`` is refused: the
    gateway would write where it leads, and removing it could lose sessions.

    Raises:
        Foreign: a link is in the place of a file of ``state``.
        OSError: a file cannot be changed.
    """
    for directory in (home.registry.parent, home.shards, home.run, home.logs):
        for entry in sorted(directory.iterdir()):
            mode = entry.lstat().st_mode
            if stat.S_ISLNK(mode) and entry not in home.directories:
                if directory not in (home.run, home.logs):
                    raise Foreign(f"{entry} is a symbolic link; put the file itself there, the gateway follows no link")
                entry.unlink()
                log.warning("removed a symbolic link that stood in the place of a file", path=str(entry))
            elif stat.S_ISREG(mode) and stat.S_IMODE(mode) & ~PRIVATE_FILE:
                entry.chmod(stat.S_IMODE(mode) & PRIVATE_FILE, follow_symlinks=False)


@contextlib.contextmanager
def as_owner(home: Home) -> Iterator[None]:
    """As root, act as the owner of a home meanwhile, so that the owner can use what is written there.

    This changes the whole process: for commands only.
    """
    owner = home.root.stat()
    if os.geteuid() != ROOT or owner.st_uid == ROOT:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(group)
        os.setgroups(groups)
