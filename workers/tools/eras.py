"""Which servers speak the older protocol alone, remembered beyond the life of a worker.

A server that does not know the question for the newer protocol may answer it with a hundred lines of errors in its log,
which people then take for the fault they look for (mcp 1.x does). So it is asked once, and again after a while: it may
have been brought up to date. What is remembered costs a question where it is lost, so no failure of the disk matters.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

KEPT_S = 7 * 24 * 3600.0  # then the server is asked again
MAX_KEPT = 256  # servers; the oldest are forgotten

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Eras:
    """The memory of a home.

    Args:
        path: of the file, which other workers write too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: dict[str, float] = {}  # what this worker learnt, or read; seconds since the epoch
        self._read = False

    def is_old(self, server: str) -> bool:
        """Whether a server was last seen to speak the older protocol alone.

        Args:
            server: :attr:`workers.tools.target.ServerTarget.offer`.
        """
        if not self._read:
            self._read = True
            self._own = self._kept() | self._own
        return _is_fresh(self._own.get(server, 0.0))

    def note(self, server: str, *, old: bool) -> None:
        """Remember what a server was seen to speak."""
        if self.is_old(server) == old:
            return
        self._own.pop(server, None)
        kept = {each: at for each, at in self._kept().items() if each != server}
        if old:
            self._own[server] = kept[server] = time.time()
        self._write(dict(sorted(kept.items(), key=lambda item: item[1])[-MAX_KEPT:]))

    def _kept(self) -> dict[str, float]:
        """The file's; nothing where it is missing or no such file."""
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        items = found.items() if isinstance(found, dict) else ()
        return {server: float(at) for server, at in items if isinstance(at, int | float) and _is_fresh(at)}

    def _write(self, kept: dict[str, float]) -> None:
        made = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            with os.fdopen(os.open(made, _FLAGS, 0o600), "w") as file:
                json.dump(kept, file)
            made.replace(self._path)


def _is_fresh(at: float) -> bool:
    return abs(time.time() - at) < KEPT_S  # a clock that ran ahead makes nothing last for ever
