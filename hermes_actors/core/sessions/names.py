"""Sessions by the name that an operator types: the key, or an end of it that no other key has. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hermes_actors.core.state import SessionEntry
from hermes_actors.wire.refusals import RefusalCode

NAMES_SHOWN = 5  # of sessions that an ambiguous name may mean
MOST_SOUGHT = NAMES_SHOWN + 1  # sessions: one more shows that there are more


class NotOne(Exception):
    """A name matches no session, or several."""

    def __init__(self, code: RefusalCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def only(name: str, found: Sequence[SessionEntry]) -> SessionEntry:
    """The one session that a name matches.

    Args:
        name: as it was typed.
        found: the sessions whose key is the name, or else ends with it; at most :data:`MOST_SOUGHT`.

    Raises:
        NotOne: it matches none, or several.
    """
    if not found:
        raise NotOne(RefusalCode.NOT_FOUND, f"no session is named {name!r}, nor ends with it")
    if len(found) > 1:
        raise ambiguous(name, [entry.key for entry in found])
    return found[0]


def ambiguous(name: str, keys: Sequence[str]) -> NotOne:
    """Which sessions a name may match."""
    more = ", …" if len(keys) > NAMES_SHOWN else ""
    return NotOne(RefusalCode.AMBIGUOUS, f"{name!r} may mean {', '.join(keys[:NAMES_SHOWN])}{more}")
