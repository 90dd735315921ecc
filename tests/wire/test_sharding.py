"""Where a key belongs must never change: its transcript would be lost."""

from __future__ import annotations

from collections import Counter

import pytest

from hermes_actors.wire.sharding import shard_of


@pytest.mark.parametrize(("key", "shard"), [("api:default:a", 15), ("api:alice:b", 3), ("telegram:1", 14)])
def test_a_key_has_the_shard_it_had_in_every_release(key: str, shard: int) -> None:
    assert shard_of(key, 16) == shard


def test_keys_spread_evenly() -> None:
    counts = Counter(shard_of(f"api:default:{number}", 8) for number in range(8000))

    assert set(counts) == set(range(8))
    assert max(counts.values()) < 1.15 * min(counts.values()) + 100
