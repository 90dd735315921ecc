"""The fork server: the process that workers are forked from, with their modules loaded.

To load them takes longer than everything else in a start, so the next life of this process gets a fork server that was
started while this one still served. multiprocessing has no public way to end its fork server, or to hand it on: what
is private there is used in this module alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing.process
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from hermes_actors.wire.ownership import OWNER_VARIABLE

# Of the environment, what a worker inherits: how to run, no secrets. The configuration's variables come in a message.
_INHERITED = frozenset({"PATH", "HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "VIRTUAL_ENV"})
_INHERITED_FAMILIES = ("LC_", "LD_", "PYTHON", "SSL_CERT_", "HERMES_ACTORS_", "NO_COLOR")

_server: Any = forkserver._forkserver  # noqa: SLF001  # the one that multiprocessing uses
_tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001  # started along with it
_KEYED = hasattr(_server, "_forkserver_authkey")  # Python 3.14: it answers only to the life that started it
_SOCKETS = "listener-*"  # how multiprocessing calls them


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkServer:
    """A fork server that is not in use, but may be."""

    pid: int
    address: str  # path of its socket
    alive: int  # descriptor of a pipe: the server ends when no process has that open any more
    code: str  # fingerprint of what it loaded


def settle(directory: Path, inherited: ForkServer | None = None) -> None:
    """Have the sockets here from now on, not in a temporary directory, which may be swept; remove old ones."""
    for path in directory.glob(_SOCKETS):
        if inherited is None or str(path) != inherited.address:
            with contextlib.suppress(OSError):  # a directory, or a disk that cannot be written: it does no harm
                path.unlink()
    multiprocessing.process.current_process()._config["tempdir"] = str(directory)  # type: ignore[attr-defined]  # noqa: SLF001


def start(module: str, mark: str) -> ForkServer:
    """Start a fork server beside the one in use; it loads ``module`` as it is on disk now, and may be asked already.

    Not in two threads at once: the environment is another one meanwhile.

    Args:
        module: of the workers.
        mark: the owner mark of all that is forked from it.

    Raises:
        OSError: no memory, no descriptors.
    """
    code = fingerprint(module)
    server: Any = forkserver.ForkServer()
    server.set_forkserver_preload([module])
    with clean_start(mark):
        server.ensure_running()
    return ForkServer(
        pid=server._forkserver_pid,  # noqa: SLF001  # see above
        address=server._forkserver_address,  # noqa: SLF001
        alive=server._forkserver_alive_fd,  # noqa: SLF001
        code=code,
    )


def use(server: ForkServer, module: str) -> bool:
    """Fork workers from a fork server of an earlier life of this process, unless other code is on disk by now.

    Call it before the first worker is started.

    Returns:
        Whether it is used; otherwise it is ended, and the first worker starts another.
    """
    if _KEYED or server.code != fingerprint(module) or not _lives(server.pid):
        end(server)
        return False
    _server._forkserver_pid = server.pid  # noqa: SLF001
    _server._forkserver_address = server.address  # noqa: SLF001
    _server._forkserver_alive_fd = server.alive  # noqa: SLF001
    return True


def end(server: ForkServer) -> None:
    """End one that is not in use."""
    os.close(server.alive)
    _kill(server.pid)
    with contextlib.suppress(OSError):  # gone already, or the disk became read-only: the next start removes it
        Path(server.address).unlink()


def end_own() -> None:
    """End the one in use, and what multiprocessing started with it: an exec would leave them behind as zombies."""
    for process, pid in ((_server, _server._forkserver_pid), (_tracker, _tracker._pid)):  # noqa: SLF001
        if pid is not None:
            os.kill(pid, signal.SIGKILL)  # to stop one is to wait for it, and it may hang
            with contextlib.suppress(OSError):  # its socket is gone already, or the disk became read-only
                process._stop()  # noqa: SLF001


def own_pid() -> int | None:
    """The process id of the one in use; None where none was started."""
    pid: int | None = _server._forkserver_pid  # noqa: SLF001
    return pid


def _lives(pid: int) -> bool:
    """Whether this is a child of ours that has not ended; one that has is reaped."""
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == 0


def _kill(pid: int) -> None:
    if _lives(pid):  # so the id is still that process's
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- what is loaded ----------------------------------------------------------------------------------------------------


def fingerprint(module: str) -> str:
    """Differs when the code on disk does: files of our packages, or what is installed beside them.

    Args:
        module: of the package that counts besides this one's.
    """
    digest = blake2b(digest_size=8)
    for name in (__name__, module):
        spec = importlib.util.find_spec(name.partition(".")[0])
        for root in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(Path(root).rglob("*.py")):
                _add(digest, path)
    for entry in sys.path:
        _add(digest, Path(entry))  # a package that comes or goes changes its directory
    return digest.hexdigest()


def _add(digest: Any, path: Path) -> None:
    with contextlib.suppress(OSError):
        stat = path.stat()
        digest.update(f"{path} {stat.st_ino} {stat.st_mtime_ns} {stat.st_size};".encode())


# -- what is inherited -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def clean_start(mark: str) -> Iterator[None]:
    """What a child inherits while it is started: not this program's main module, directory, or secrets.

    Children would import the parent's ``__main__`` again, the command-line program with all that it needs; the fork
    server would prefer a package of the current directory to the installed one; and the variables that the
    configuration names reach a worker in a message, so it needs no others.
    """
    main = sys.modules["__main__"]
    before = dict(os.environ)
    wanted = {name: value for name, value in before.items() if _is_inherited(name)}
    wanted |= {OWNER_VARIABLE: mark, "PYTHONSAFEPATH": "1"}
    sys.modules["__main__"] = ModuleType("__main__")
    _set_environment(wanted)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        _set_environment(before)


def _is_inherited(name: str) -> bool:
    return name in _INHERITED or name.startswith(_INHERITED_FAMILIES)


def _set_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
