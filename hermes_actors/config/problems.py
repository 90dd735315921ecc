"""What is wrong with a configuration, in words for the operator who has to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hermes_actors.config.pasted import is_plain_name, looks_like_key

MAX_SHOWN = 60  # characters of a name or value from the file
HIDDEN = "[looks like a key]"  # in place of a name that may be one
LOOKS_LIKE_KEY = "this looks like a key"
KEEP_KEY = "put the key into .env of the home as NAME=key, and write only the NAME here"

KeyPath: TypeAlias = tuple[str | int, ...]


def printable(text: str) -> str:
    """Text as it may go to a terminal: on one line, without control characters and undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """A name or value from a file, printable and bounded."""
    return printable(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend. No value of a variable and no value that may be a secret is in its words."""

    what: str  # is wrong
    remedy: str = ""  # what to do, where ``what`` does not say it
    path: KeyPath = ()
    line: int | None = None  # from 1; None: it stands nowhere in the file
    file: str = ""

    @property
    def key(self) -> str:
        """The dotted key: ``mcp_servers.files.args.0``; empty where the whole file is meant."""
        return ".".join(HIDDEN if looks_like_key(str(part)) else shown(str(part)) for part in self.path)

    def __str__(self) -> str:
        place = printable(self.file) + (f":{self.line}" if self.line is not None else "")
        text = ": ".join(part for part in (place, self.key, self.what) if part)
        return f"{text}\n    {self.remedy}" if self.remedy else text


def unset_variable(name: str, path: KeyPath, how: str) -> Problem:
    """A variable has no value; its name is repeated only where it cannot be the key itself."""
    if is_plain_name(name):
        remedy = f"set {name} in the environment or in the .env of the home"
        return Problem(what=f"the variable {name} {how}", path=path, remedy=remedy)
    if looks_like_key(name):
        return Problem(what=f"expected the name of a variable; {LOOKS_LIKE_KEY}", path=path, remedy=KEEP_KEY)
    remedy = "set it in the environment or in the .env of the home; if this is the key itself, put it there"
    return Problem(what=f"the variable that is named here {how}", path=path, remedy=remedy)


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has everything that was found, ``str()`` is for people."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"configuration: {count}", *map(str, self.problems)]))
