"""Tracebacks for the log: where an exception came from and of which kind, without words that may quote a message.

Words like ``invalid literal for int() with base 10: '…'`` carry what a person said. Those of the operating system, of
SQLite and of our own exceptions do not, so they are kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from traceback import format_tb

MOST_EXCEPTIONS = 20  # of causes and of groups together
MOST_FRAMES = 50  # of one, the innermost
_OURS = ("hermes_actors", "workers")


def traceback_of(error: BaseException) -> str:
    """The lines of an exception, after those of what caused it, as Python prints them."""
    return "\n".join(islice(_lines(error), MOST_EXCEPTIONS))


def _lines(error: BaseException) -> Iterator[str]:
    for one in reversed(_causes(error)):
        yield "".join([*format_tb(one.__traceback__, -MOST_FRAMES), _kind(one)])
        if isinstance(one, BaseExceptionGroup):
            for inner in one.exceptions:
                yield from _lines(inner)


def _causes(error: BaseException) -> list[BaseException]:
    """It and what led to it, the last first."""
    chain = [error]
    while len(chain) < MOST_EXCEPTIONS:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or any(before is one for one in chain):
            break
        chain.append(before)
    return chain


def _kind(error: BaseException) -> str:
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    speaks = isinstance(error, OSError | sqlite3.Error) or module.partition(".")[0] in _OURS
    return f"{name}: {error}" if speaks and str(error) else name
