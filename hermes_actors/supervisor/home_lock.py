"""One supervisor per home: the lock that it holds for life."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import structlog

from hermes_actors.home import PRIVATE_FILE, Home
from hermes_actors.supervisor import ownership

LOCK_TIMEOUT_S = 0.5  # a stopping supervisor may hold it for a moment more
LOCK_POLL_S = 0.05
SOCKET_PATH_MOST = 107  # bytes; sun_path of unix(7), less the final zero
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

# Filesystems on which flock does not exclude other machines: the type names of /proc/self/mountinfo.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.sshfs", "ncpfs", "glusterfs"})


log = structlog.get_logger(__name__)


class HomeBusy(Exception):
    """Another supervisor runs on this home.

    Attributes:
        pid: its process id; None where it is not known.
    """

    def __init__(self, home: Path, pid: int | None) -> None:
        super().__init__(f"a supervisor is already running on {home}" + (f" with pid {pid}" if pid else ""))
        self.pid = pid


class HomeUnusable(Exception):
    """The home is on a filesystem, or under a path, that a gateway cannot use."""


@contextlib.contextmanager
def hold(home: Home, inherited: int | None = None) -> Iterator[int]:
    """Make the home's directories and hold its lock. Files that an earlier holder left do not matter.

    Yields the descriptor that holds it: as long as a copy of that is open, the lock is held.

    Args:
        home: where it is.
        inherited: such a copy, of an earlier life of this process.

    Raises:
        HomeBusy: another supervisor holds it.
        HomeUnusable: it is another user's, on a network filesystem, cannot be made, holds links in the places of
            files, or its path is too long for its sockets.
    """
    refuse_foreign(home)
    _refuse_long_path(home)
    try:
        for moved in home.make():
            log.error("moved what stood in the place of a directory of the home", moved_to=str(moved))
    except OSError as error:
        raise HomeUnusable(f"the home {home.root} cannot be made: {error.strerror or error}") from error
    _refuse_network(home.root)
    with _opened(home.lock, inherited) as lock:
        try:
            _acquire(lock, home)
        except (OSError, NotImplementedError) as error:
            raise HomeUnusable(f"{home.lock} cannot be locked: {error}") from error
        _make_private(home)
        with contextlib.suppress(OSError):  # a full disk: the number in the file is only a hint
            _pid_file(home).unlink(missing_ok=True)
            with os.fdopen(os.open(_pid_file(home), _NEW, PRIVATE_FILE), "w") as file:
                file.write(f"{os.getpid()}\n")
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError):
                _pid_file(home).unlink()


def refuse_foreign(home: Home) -> None:
    """Raise HomeUnusable where the home is another user's, before anything in it is read or made."""
    try:
        ownership.refuse_foreign(home)
    except ownership.Foreign as error:
        raise HomeUnusable(str(error)) from error
    except OSError as error:
        raise HomeUnusable(f"the home {home.root} cannot be used: {error.strerror or error}") from error


def _make_private(home: Home) -> None:
    try:
        ownership.make_private(home)
    except ownership.Foreign as error:
        raise HomeUnusable(str(error)) from error
    except OSError as error:
        raise HomeUnusable(f"{error.filename} cannot be made private: {error.strerror or error}") from error


@contextlib.contextmanager
def _opened(path: Path, inherited: int | None) -> Iterator[int]:
    """The lock file: the inherited descriptor if it is of the file that has this name now, else one of its own."""
    if inherited is not None and not (path.exists() and os.path.samestat(os.fstat(inherited), path.stat())):
        os.close(inherited)
        inherited = None
    try:
        if inherited is None:
            inherited = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise HomeUnusable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        yield inherited
    finally:
        os.close(inherited)  # unlocks, unless there is a copy


def _acquire(lock: int, home: Home) -> None:
    """Take the lock, or hold it on: an inherited descriptor has it already."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not filelock.lock_descriptor(lock, blocking=False):
        if time.monotonic() > deadline:
            raise HomeBusy(home.root, _owner(home))
        time.sleep(LOCK_POLL_S)


def _pid_file(home: Home) -> Path:
    return home.lock.with_suffix(".pid")


def _owner(home: Home) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(_pid_file(home).read_text())
    return None


def _refuse_long_path(home: Home) -> None:
    fork_server = home.run / f"listener-{'x' * 8}"  # as multiprocessing calls its socket
    longest = max((home.control, home.peer(999), fork_server), key=lambda path: len(os.fsencode(path)))
    if len(os.fsencode(longest)) > SOCKET_PATH_MOST:
        raise HomeUnusable(
            f"the home's path is too long: its socket {longest} has {len(os.fsencode(longest))} bytes, "
            f"the system allows {SOCKET_PATH_MOST}"
        )


def _refuse_network(root: Path) -> None:
    kind = filesystem(root)
    if kind in _NETWORK:
        raise HomeUnusable(
            f"the home {root} is on a network filesystem ({kind}), where locks do not keep other machines out and "
            "SQLite is not safe: use a local disk"
        )


def filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the filesystem that a path is on, as in proc_pid_mountinfo(5); "" where it is not known."""
    path = path.resolve()
    best, kind = -1, ""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind
