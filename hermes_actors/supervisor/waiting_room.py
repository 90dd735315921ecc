"""Answers at the public address while the disk cannot be written, so that a full disk does not make a start fail.

No turn can be taken and no session read then, so every request is refused as a worker would refuse it, and the service
manager is asked to wait. It ends when the disk takes what a start writes, or with a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from hermes_actors.config.model import ApiServerConfig
from hermes_actors.core.events import Event, OperatorAsked
from hermes_actors.home import PRIVATE_FILE, Home
from hermes_actors.operators.messages import OperatorResponse
from hermes_actors.operators.server import ControlServer
from hermes_actors.pool.listeners import open_listeners
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerNotWritten
from hermes_actors.restart.handover import SIGNALS
from hermes_actors.supervisor.notify import ServiceManager
from hermes_actors.supervisor.recorder import NotWritable
from hermes_actors.wire.refusals import RefusalCode

if TYPE_CHECKING:
    from aiohttp import web

LOOK_S = 1.0  # between two looks at the disk
NEEDED_BYTES = 1024 * 1024  # what a start may write: logs and indexes of a registry and some shards
PATIENCE_S = 30.0  # that the service manager is asked for with each look

_NOT_NOW = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
_WORDS = "The gateway cannot write to its disk; its log says why. What to do: look at its disk, then try again."

log = structlog.get_logger(__name__)


def waits_for_disk(error: BaseException | None) -> bool:
    """Whether a start failed because the disk cannot be written now: full, read-only or failing."""
    while error is not None:
        if isinstance(error, NotWritable | LedgerNotWritten):
            return True
        if isinstance(error, RegistryFailed) and error.is_short_of_space:
            return True
        if isinstance(error, OSError) and error.errno in _NOT_NOW:
            return True
        error = error.__cause__
    return False


def wait(home: Home, api: ApiServerConfig, why: str) -> bool:
    """Refuse every request until the disk can be written. Call it in the main thread.

    Returns:
        Whether it can be; False: a signal requested a stop.

    Raises:
        ListenFailed: the public address cannot be listened on.
    """
    log.error("the disk cannot be written; the gateway refuses messages until it can be", why=why)
    writable = uvloop.run(_wait(home, api, why))
    if writable:
        log.info("the disk can be written again; the gateway starts")
    return writable


def try_to_write(directory: Path, size: int = NEEDED_BYTES) -> None:
    """Write so much to a file of its own, and remove it.

    Raises:
        OSError: that is not possible.
    """
    probe = directory / f"probe-{secrets.token_hex(4)}"
    file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        written = 0
        while written < size:
            written += os.write(file, bytes(size - written))
        os.fsync(file)
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            probe.unlink()


async def _wait(home: Home, api: ApiServerConfig, why: str) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack, _heard(stop):
        listener = stack.enter_context(open_listeners(api.host, api.port, 1))[0]
        server = await loop.create_server(_server(), sock=listener.dup())
        control = _control(home, why)
        with contextlib.suppress(OSError):  # on such a disk there may be no place for a socket
            await control.open()
        manager = ServiceManager()
        writable = False
        while not stop.is_set() and not writable:
            manager.going("waiting", PATIENCE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            writable = not stop.is_set() and await asyncio.to_thread(_can_write, home)
        server.close()
        await control.close()
        return writable


def _can_write(home: Home) -> bool:
    try:
        home.make()
        try_to_write(home.registry.parent)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _heard(stop: asyncio.Event) -> Iterator[None]:
    """Signals end the wait; they are blocked before and after it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the next start reads the configuration
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _control(home: Home, why: str) -> ControlServer:
    """A control socket that answers each request with why nothing can be done."""

    def refuse(event: Event) -> None:
        assert isinstance(event, OperatorAsked)
        words = f"the gateway has not started yet, since the disk cannot be written: {why}"
        client, request = event.reply_to
        control.respond(client, OperatorResponse(request=request, error=RefusalCode.STORE_FAILED, why=words, data={}))

    control = ControlServer(home.control, refuse)
    return control


def _server() -> Callable[[], asyncio.Protocol]:
    from aiohttp import web  # a supervisor that starts in order needs none of it

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        status, body = _answer(request.path)
        return web.json_response(body, status=status, headers={"Connection": "close"})

    return web.Server(answer)  # called without arguments it makes a protocol


def _answer(path: str) -> tuple[int, dict[str, Any]]:
    match path:
        case "/health":
            return 200, {"status": "ok"}
        case "/readyz":
            return 503, {"status": "not_ready", "reason": "store_failed"}
        case _:
            error = {"message": _WORDS, "type": "server_error", "param": None, "code": "store_failed"}
            return 500, {"error": error}
