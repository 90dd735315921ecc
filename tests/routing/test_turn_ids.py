"""The id of a turn names the shard of its session; ids of earlier releases name none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.turn_ids import new_turn_id, shard_of_turn

SHARDS = st.integers(1, 4096)


@given(st.data(), SHARDS)
def test_a_new_id_gives_its_shard_back(data: st.DataObject, shards: int) -> None:
    shard = data.draw(st.integers(0, shards - 1))

    assert shard_of_turn(new_turn_id(shard), shards) == shard


def test_no_two_ids_are_the_same() -> None:
    assert len({new_turn_id(0) for _ in range(1000)}) == 1000


@given(st.text(max_size=60), SHARDS)
def test_what_a_caller_sends_names_a_shard_of_the_home_or_none(text: str, shards: int) -> None:
    for turn_id in (text, f"turn_{text}", f"turn_{text}_{'0' * 24}"):
        assert shard_of_turn(turn_id, shards) in (None, *range(shards))


@pytest.mark.parametrize(
    "turn_id",
    [
        "turn_1dda11d1986259caf7dcdb98",
        "turn_8_1dda11d1986259caf7dcdb98",
        "turn_01_1dda11d1986259caf7dcdb98",
        "turn_-1_1dda11d1986259caf7dcdb98",
        "turn_\u0661_1dda11d1986259caf7dcdb98",
        "turn_1_1dda11d1986259caf7dcdb9",
        "turn_1_1dda11d1986259caf7dcdb98\n",
        "",
    ],
    ids=["earlier release", "no such shard", "leading zero", "negative", "other digits", "short", "newline", "empty"],
)
def test_other_ids_name_no_shard(turn_id: str) -> None:
    assert shard_of_turn(turn_id, 8) is None
