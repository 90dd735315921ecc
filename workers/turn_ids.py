"""Ids of turns: ``turn_<shard>_<random>``, so that the owner of a turn is found by its id alone.

Releases before this form made ``turn_<random>``; such an id names its turn like any other, but not its shard.
"""

from __future__ import annotations

import re
import secrets

RANDOM_BYTES = 12

_FORM = re.compile(rf"turn_(0|[1-9][0-9]*)_[0-9a-f]{{{2 * RANDOM_BYTES}}}", re.ASCII)


def new_turn_id(shard: int) -> str:
    """An id that no turn has."""
    return f"turn_{shard}_{secrets.token_hex(RANDOM_BYTES)}"


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
