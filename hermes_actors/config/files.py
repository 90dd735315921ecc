"""Reading and replacing the small text files of a configuration."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from hermes_actors.config.problems import Problem
from hermes_actors.disk import files
from hermes_actors.home import user_name

MAX_FILE_BYTES = 256 * 1024
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Unreadable(Exception):
    """A file is there and holds no text that could be used."""

    def __init__(self, what: str, *, line: int | None = None, remedy: str = "") -> None:
        super().__init__(what)
        self.problem = Problem(what=what, line=line, remedy=remedy)


def read_text(file: Path, owners: Collection[int] | None = None) -> str:
    """A file's text.

    Args:
        file: where it is.
        owners: the users (ids) that may write what is believed here; None: any user, since it is only looked at.

    Raises:
        FileNotFoundError: it is not there.
        Unreadable: it cannot be read, is too large, is not UTF-8, or others than these users may have written it.
    """
    try:
        with file.open("rb") as stream:
            if owners is not None:
                _refuse_foreign(file, os.fstat(stream.fileno()), owners)
            raw = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise Unreadable(f"cannot be read: {why(error)}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable("not UTF-8", line=line, remedy="save the file as UTF-8") from error


def _refuse_foreign(file: Path, found: os.stat_result, owners: Collection[int]) -> None:
    """Only of regular files: who gives a pipe with ``--config`` chose it now.

    Raises:
        Unreadable: others may write it.
    """
    if not stat.S_ISREG(found.st_mode):
        return
    if found.st_uid not in owners:
        raise Unreadable(
            f"it belongs to another user ({user_name(found.st_uid)}), and it decides which programs run here",
            remedy=f"make it yours, or root's: chown {user_name(max(owners))} {file}",
        )
    if found.st_mode & OTHERS_WRITE:
        what = "others than its owner may write it, and it decides which programs run here"
        raise Unreadable(what, remedy=f"chmod go-w {file}")


def replace_private(file: Path, text: str) -> None:
    """Replace a file at once, durably; only its owner may read it.

    Raises:
        OSError: it stands as it was.
    """
    files.replace(file, text.encode(), draft=files.beside(file, f".{os.getpid()}.tmp"))


def why(error: Exception) -> str:
    """The system's words for an error, without paths."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
