"""Ids of turns: ``turn_<shard>_<random>``, so that the owner of a turn is found by its id alone.

Releases before this form made ``turn_<random>``; such an id names its turn like any other, but not its shard.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b

RANDOM_BYTES = 12
DRAWN_AT_ONCE = 512  # ids' worth: each draw releases the GIL, and the journal's thread takes it

_FORM = re.compile(rf"turn_(0|[1-9][0-9]*)_[0-9a-f]{{{2 * RANDOM_BYTES}}}", re.ASCII)


class _Drawn:
    """Random bytes of the kernel that no id has yet; a forked process draws its own."""

    def __init__(self) -> None:
        self._hex: list[str] = []
        os.register_at_fork(after_in_child=self._hex.clear)

    def take(self) -> str:
        if not self._hex:
            drawn = os.urandom(DRAWN_AT_ONCE * RANDOM_BYTES).hex()
            size = 2 * RANDOM_BYTES
            self._hex += [drawn[at : at + size] for at in range(0, len(drawn), size)]
        return self._hex.pop()


_drawn = _Drawn()


def new_turn_id(shard: int) -> str:
    """An id that no turn has, which no one can guess."""
    return f"turn_{shard}_{_drawn.take()}"


def copied_turn_id(shard: int, key: str, through: str, turn_id: str) -> str:
    """The id of a turn's copy in another session; the same each time that it is copied up to the same turn.

    Args:
        shard: of the session that has the copy.
        key: of that session.
        through: the id of the last turn that is copied.
        turn_id: of the turn whose copy it is.
    """
    name = f"{key}\0{through}\0{turn_id}"
    return f"turn_{shard}_{blake2b(name.encode(), digest_size=RANDOM_BYTES).hexdigest()}"


def shard_of_turn(turn_id: str, shards: int) -> int | None:
    """The shard that a turn's id names; None: it names none of these.

    Args:
        turn_id: of the turn, as anyone may have sent it.
        shards: how many the home has.
    """
    form = _FORM.fullmatch(turn_id)
    if form is None or len(form[1]) > len(str(shards)):
        return None
    shard = int(form[1])
    return shard if shard < shards else None
