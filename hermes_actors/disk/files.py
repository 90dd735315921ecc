"""Small files: replaced at once and durably, or moved out of the way for people to look at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hermes_actors.home import PRIVATE_FILE


def replace(file: Path, content: bytes, *, draft: Path, reached: Callable[[str], None] = lambda _: None) -> None:
    """Replace a file at once, safe from a loss of power when this returns; only its owner may read it.

    Args:
        file: the file.
        content: what it has afterwards.
        draft: where the content is written first, in the same directory. What an earlier writer left there is removed.
        reached: called with ``draft``, ``drafted``, ``renamed`` and ``synced`` as each is reached.

    Raises:
        OSError: the file is as it was, or is the new one without safety from a loss of power.
    """
    reached("draft")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE), "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        reached("drafted")
        draft.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)  # a full disk wants its space back
        raise
    reached("renamed")
    sync_directory(file.parent)
    reached("synced")


def sync_directory(directory: Path) -> None:
    """Make the names in a directory safe from a loss of power.

    Raises:
        OSError: the disk does not do it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(file: Path, *companions: str) -> Path:
    """Move a damaged file to a name with the time in it, and with it the files whose names have these endings more.

    Returns:
        The path that the file has now.

    Raises:
        OSError: the file cannot be moved.
    """
    aside = beside(file, f".corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    file.rename(aside)
    for ending in companions:
        with contextlib.suppress(FileNotFoundError):
            beside(file, ending).rename(beside(aside, ending))
    sync_directory(file.parent)
    return aside


def beside(file: Path, ending: str) -> Path:
    """The path of a file whose name has this ending more."""
    return file.with_name(f"{file.name}{ending}")
