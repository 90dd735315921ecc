"""``docs/reference/failures.md``, drawn from the data of the causes and of the signs that they are recognised by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers.models.cause import TREATMENTS, Cause
from workers.models.signs import CAUSE_OF_STATUS, SIGNS, Sign

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failures.md"
MARKS = ("treatments", "signs", "statuses")  # <!-- NAME --> … <!-- end of NAME -->


def drawn(text: str) -> str:
    """The page, with each of its tables as the data says."""
    for name, table in zip(MARKS, (treatments(), signs(), statuses()), strict=True):
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- end of {name} -->\n")[1]
        text = "".join((before, f"<!-- {name} -->\n", table, f"<!-- end of {name} -->\n", after))
    return text


def treatments() -> str:
    """What follows from each cause."""
    rows = [
        "| cause | tried again | next provider | the message is kept | the caller gets | advice |",
        "|---|---|---|---|---|---|",
    ]
    for cause, how in TREATMENTS.items():
        advice = how.advice.format(model="ID", key_env="the variable NAME (key_env)", length=" (both numbers)")
        rows.append(
            f"| `{cause}` | {how.again} | {_yes(how.next_provider)} | {_yes(how.kept)} "
            f"| {how.http_status} `{how.code}` | {advice} |"
        )
    return _table(rows)


def signs() -> str:
    """By what each cause is recognised, in the order in which it is looked for."""
    rows = ["| cause | who says it | codes, field | words | only with |", "|---|---|---|---|---|"]
    rows += [
        f"| `{sign.cause}` | {sign.source} | {', '.join(_places(sign))} | {_code(sign.words)} | {_statuses(sign)} |"
        for sign in SIGNS
    ]
    return _table(rows)


def statuses() -> str:
    """What a status means by itself."""
    of: dict[Cause, list[str]] = {}
    for status, cause in sorted(CAUSE_OF_STATUS.items()):
        of.setdefault(cause, []).append(str(status))
    of.setdefault(Cause.MALFORMED, []).append("3xx")
    of[Cause.REQUEST].append("any other 4xx")
    of[Cause.DOWN].append("any other 5xx; none, inside a stream")
    rows = ["| status | cause |", "|---|---|"]
    return _table(rows + [f"| {', '.join(names)} | `{cause}` |" for cause, names in of.items()])


def _places(sign: Sign) -> Iterator[str]:
    yield from (f"`{code}`" for code in sorted(sign.codes))
    if sign.param:
        yield f"`param` begins with {_code(sign.param)}"


def _code(pattern: str) -> str:
    return "" if not pattern else f"`{pattern}`".replace("|", "\\|")


def _statuses(sign: Sign) -> str:
    named = [str(status) for status in sorted(status for status in sign.statuses if status is not None)]
    if None in sign.statuses:
        named.append("none")
    if sign.names_model:
        named.append("where the model's id is named")
    return ", ".join(named)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(rows: list[str]) -> str:
    return "".join(f"{row}\n" for row in rows)
