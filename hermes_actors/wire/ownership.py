"""How a process that a worker started is recognised as ours, whatever became of the worker.

Workers put :data:`OWNER_VARIABLE` into the environment of everything they start. Those processes pass it on to what
they start, so one look through ``/proc`` finds whole trees, also processes that left their group.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

OWNER_VARIABLE = "HERMES_ACTORS_OWNER"
HOME_VARIABLE = "HERMES_ACTORS_HOME"  # with the next one, so that a command that a tool calls knows for whom it speaks
SESSION_VARIABLE = "HERMES_ACTORS_SESSION"


def home_mark(home: Path | str) -> str:
    """The part of the mark that all processes of a home share, over all its starts."""
    return blake2b(str(Path(home).resolve()).encode(), digest_size=8).hexdigest()


def owner_mark(home: Path | str, boot: str, slot: int, generation: int) -> str:
    """The value of :data:`OWNER_VARIABLE` for what one worker process starts; a prefix of it names its boot or home."""
    return f"{home_mark(home)}:{boot}:{slot}:{generation}:"
