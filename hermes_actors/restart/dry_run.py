"""The rehearsal of a restart: the command line is run once beside the gateway, to see whether it could serve again.

It is the code and the configuration on disk that will run after the restart, so they have to judge themselves. The
rehearsing process finds :data:`VARIABLE` in its environment; it checks, opens nothing, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pkgutil
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from hermes_actors.config.model import Settings
from hermes_actors.logs import mask
from hermes_actors.pool.listeners import refuse_taken, resolve
from hermes_actors.pool.pool import WORKER_ENTRY, slots
from hermes_actors.records.registry import ShardsFixed
from hermes_actors.restart.handover import CommandLine
from hermes_actors.wire.ownership import OWNER_VARIABLE
from hermes_actors.wire.refusals import RefusalCode

VARIABLE = "HERMES_ACTORS_REHEARSAL"
TIMEOUT_S = 20.0  # to import everything and check; two seconds are usual
TOLD_CHARS = 2000  # of what it said, from the end
LOGGED_CHARS = 50_000  # the same, in the log
EX_CONFIG = 78  # of sysexits.h, as the command line exits

BROKEN = (
    "The code on disk cannot be started: {}. Nothing changed; the gateway goes on. "
    "The whole traceback is in logs/supervisor.log."
)

_FRAME = re.compile(r'^ *File "(?P<path>[^"]+)", line (?P<line>\d+).*$', re.MULTILINE)
_ROOT = f"{Path(__file__).parents[2]}/"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the gateway has that is to be restarted: this much need not be free."""

    port: int
    shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotRestart:
    """Why there can be no restart."""

    error: RefusalCode  # configuration | cannot_restart
    why: str


def asked_for() -> Running | None:
    """What runs, if this process is to rehearse; removed from the environment, as nothing that it starts is to."""
    running = os.environ.pop(VARIABLE, None)
    return None if running is None else Running(**json.loads(running))


def check(settings: Settings, running: Running, entry: str = WORKER_ENTRY) -> None:
    """In the process that rehearses: whether a gateway with these settings could take over. Nothing stays open.

    Raises:
        ImportError: the workers' code cannot be loaded.
        TooManyWorkers: more are configured than are possible.
        ShardsFixed: another number is configured than the home has.
        ListenFailed: another public address is configured, and it cannot be listened on.
    """
    pkgutil.resolve_name(entry)
    supervisor, api = settings.config.supervisor, settings.config.api_server
    slots(supervisor.workers)
    if isinstance(supervisor.shards, int) and supervisor.shards != running.shards:
        raise ShardsFixed(configured=supervisor.shards, fixed=running.shards)
    if api.port in (0, running.port):  # which an own socket may have
        resolve(api.host, api.port)
    else:
        refuse_taken(api.host, api.port)


async def rehearse(command: CommandLine, running: Running, mark: str) -> CannotRestart | None:
    """Try the command line; None: it could serve.

    Args:
        command: what to try.
        running: what the gateway has now.
        mark: by which the reaper finds the process, should this one be killed meanwhile.
    """
    process = await asyncio.create_subprocess_exec(
        *command.words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**command.environment, OWNER_VARIABLE: mark, VARIABLE: json.dumps(asdict(running))},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError:
        return CannotRestart(error=RefusalCode.CANNOT_RESTART, why=f"the new start gave no word within {TIMEOUT_S:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return _refused(process.returncode, mask(said.decode(errors="replace")).strip())


def _refused(code: int | None, said: str) -> CannotRestart | None:
    """What follows from the exit code of a rehearsal, and what it said."""
    if code == 0:
        return None
    raised = None if code == EX_CONFIG else _raised(said)
    if raised is not None:
        log.error("the code on disk cannot be started", exception=_end(said, LOGGED_CHARS))
        return CannotRestart(error=RefusalCode.CANNOT_RESTART, why=BROKEN.format(raised))
    told = _end(said.removeprefix("Error: "), TOLD_CHARS) or f"the new start ended with exit code {code}"
    return CannotRestart(error=RefusalCode.CONFIGURATION if code == EX_CONFIG else RefusalCode.CANNOT_RESTART, why=told)


def _raised(said: str) -> str | None:
    """The exception of the last traceback in it, and where it was raised; None: there is none."""
    frames = [found for found in _FRAME.finditer(said) if not found["path"].startswith("<")]
    if not frames:
        return None
    after = said[frames[-1].end() :].splitlines()
    error = next((line for line in after if line[:1].strip()), "an error").rstrip(".")
    return f"{error[:TOLD_CHARS]} ({frames[-1]['path'].removeprefix(_ROOT)}:{frames[-1]['line']})"


def _end(text: str, most: int) -> str:
    """The last lines of a text, of about so many characters at most."""
    if len(text) <= most:
        return text
    tail = text[-most:]
    return tail.partition("\n")[2] or tail
