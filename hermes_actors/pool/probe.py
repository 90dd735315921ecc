"""A trial of the models and tool servers that a configuration names, in processes of their own.

The questions are asked by the code that a worker runs, which this package does not import: :data:`MODELS` and
:data:`SERVERS` name it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hermes_actors.config.model import Settings, to_plain

MODELS = "workers.probe"
SERVERS = "workers.tools.trial_process"
MAX_REPORT_CHARS = 1024 * 1024  # a line
END_S = 10.0  # for the process to end its tool servers after SIGTERM


class ProbeFailed(Exception):
    """The trial itself broke off; the text says why, for people."""


def probe(settings: Settings, *, home: Path) -> Iterator[dict[str, Any]]:
    """The reports of a trial of everything, as they come; leaving the iteration ends it.

    A report is ``{"about": "model" | "server", "name", "detail", "checks": [{"what", "level": "ok" | "note" | "bad",
    "seen", "remedy"}]}``; ``bad`` is what would fail, or be missing, in every turn.

    Args:
        settings: checked.
        home: of the gateway.

    Raises:
        ProbeFailed: the trial broke off.
    """
    yield from _reports(MODELS, settings)
    enabled = [name for name, entry in settings.config.mcp_servers.items() if entry.enabled]
    if enabled:
        yield from map(of_server, try_servers(settings, enabled, home=home))


def of_server(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The trial of a tool server as a report of :func:`probe`."""
    said = trial["detail"].strip().splitlines()
    remedy = f"the server said: {said[-1]}" if said else "see hermes-ctl mcp test " + trial["server"]
    checks = [
        {
            "what": step["what"],
            "level": "ok" if step["ok"] else "bad",
            "seen": step["seen"],
            "remedy": "" if step["ok"] else remedy,
        }
        for step in trial["steps"]
    ]
    checks += [{"what": "tools", "level": "note", "seen": what, "remedy": ""} for what in trial["warnings"]]
    return {"about": "server", "name": f"MCP server {trial['server']}", "detail": "", "checks": checks}


def try_servers(settings: Settings, names: Sequence[str], *, home: Path) -> Iterator[dict[str, Any]]:
    """The reports on tool servers alone, as they come: each a :class:`workers.tools.trial.Trial`, as plain data.

    Args:
        settings: checked.
        names: of servers that are enabled.
        home: of the gateway.

    Raises:
        ProbeFailed: the trial broke off.
    """
    yield from _reports(SERVERS, settings, home=str(home), servers=list(names))


def _reports(module: str, settings: Settings, **order: Any) -> Iterator[dict[str, Any]]:
    """What a module of the workers' package reports, a line of JSON each, on what it gets as JSON."""
    order |= {"config": to_plain(settings.config), "environment": dict(settings.environment)}
    with _running([sys.executable, "-m", module]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # its exit code says why
            process.stdin.write(json.dumps(order))
            process.stdin.close()
        while line := process.stdout.readline(MAX_REPORT_CHARS):
            yield json.loads(line)
        if (code := process.wait(END_S)) != 0:
            raise ProbeFailed(f"the trial ended with exit code {code}: {_last_line(process)}")


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, in a group of its own that ends with the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                _end(process)
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"the trial did not end within {END_S:g} s") from error


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(process: subprocess.Popen[str]) -> str:
    """What a process said last, which for a Python process that broke is the error."""
    assert process.stderr is not None
    lines = process.stderr.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"
