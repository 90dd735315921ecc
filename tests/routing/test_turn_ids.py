"""The id of a turn names the shard of its session; ids of earlier releases name none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.turn_ids import DRAWN_AT_ONCE, new_turn_id, shard_of_turn

SHARDS = st.integers(1, 4096)


@given(st.data(), SHARDS)
def test_a_new_id_gives_its_shard_back(data: st.DataObject, shards: int) -> None:
    shard = data.draw(st.integers(0, shards - 1))

    assert shard_of_turn(new_turn_id(shard), shards) == shard


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


FORKED = """
import os
from workers.turn_ids import new_turn_id
before = new_turn_id(3)
if child := os.fork():
    os.waitpid(child, 0)
print(*(new_turn_id(3) for _ in range(50)), flush=True)
"""


def test_a_forked_process_has_ids_of_its_own() -> None:
    said = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True).stdout.split()

    assert len(set(said)) == 100


def test_ids_stay_different_beyond_what_is_drawn_at_once() -> None:
    made = [new_turn_id(3) for _ in range(3 * DRAWN_AT_ONCE)]

    assert len(set(made)) == len(made)
