r"""The file ``.env`` of a home: ``KEY=VALUE`` lines as a shell reads them, without expansion. Pure.

``export`` may stand before a name. An unquoted value ends at a blank and ``#``; one in single quotes is taken as it
is; in double quotes ``\n``, ``\t``, ``\r``, ``\"``, ``\\`` and ``\$`` are escapes. A value stays on its line. Of two
lines for a variable the last wins.
"""

from __future__ import annotations

import re

from hermes_actors.config.problems import Problem

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(?P<value>.*)", re.DOTALL)
_SINGLE = re.compile(r"'(?P<text>[^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_COMMENT = re.compile(r"(?:^|\s+)#.*")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def parse_dotenv(text: str) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """The variables in a text, and the lines that set none. No problem repeats a value."""
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment is None:
            problems.append(Problem(what="expected KEY=VALUE", line=number))
            continue
        name, value = assignment["name"], _value(assignment["value"])
        if value is None:
            remedy = "close the quote on the same line, and put nothing but a comment behind it"
            problems.append(Problem(what="the quoted value does not end", remedy=remedy, path=(name,), line=number))
        elif "\0" in value:
            problems.append(Problem(what="the value holds a NUL character", path=(name,), line=number))
        else:
            variables[name] = value
    return variables, tuple(problems)


def with_variable(text: str, name: str, value: str) -> str:
    """The text with one variable set; other lines stay. The value must need no quotes."""
    kept = [line for line in _lines(text) if (found := _ASSIGNMENT.fullmatch(line)) is None or found["name"] != name]
    while kept and not kept[-1].strip():
        kept.pop()
    return "\n".join([*kept, f"{name}={value}", ""])


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _value(written: str) -> str | None:
    """What a right-hand side stands for; None where a quote is not closed."""
    if written.startswith("'"):
        single = _SINGLE.fullmatch(written)
        return None if single is None else single["text"]
    if written.startswith('"'):
        double = _DOUBLE.fullmatch(written)
        return None if double is None else _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), double["text"])
    return _COMMENT.sub("", written).strip()
