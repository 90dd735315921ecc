"""Shards on slots: even, stable, and moved no more than needed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.pool.placement import covered, place

counts = st.integers(1, 64)


@given(st.dictionaries(st.integers(0, 80), st.integers(-1, 70)), counts, counts)
def test_every_shard_has_one_slot_and_slots_differ_by_at_most_one(
    current: dict[int, int], shards: int, slots: int
) -> None:
    placed = place(current, shards, slots)

    held = Counter(placed)
    assert len(placed) == shards
    assert set(placed) <= set(range(slots))
    assert max(held[slot] for slot in range(slots)) - min(held[slot] for slot in range(slots)) <= 1


@given(counts, counts)
def test_the_same_number_of_workers_moves_nothing(shards: int, slots: int) -> None:
    placed = place({}, shards, slots)

    assert place(dict(enumerate(placed)), shards, slots) == placed


@given(counts, counts, counts)
def test_another_number_of_workers_moves_no_more_shards_than_it_must(shards: int, before: int, after: int) -> None:
    old = place({}, shards, before)

    new = place(dict(enumerate(old)), shards, after)

    moved = sum(one != other for one, other in zip(old, new, strict=True))
    held = sorted((Counter(old)[slot] for slot in range(after)), reverse=True)
    least, extra = divmod(shards, after)
    most_that_can_stay = sum(min(count, least + (rank < extra)) for rank, count in enumerate(held))
    assert moved == shards - most_that_can_stay


@given(st.sets(st.integers(0, 15)), st.integers(16, 20))
def test_each_slot_has_exactly_one_worker_that_accepts_for_it_while_one_is_up(up: set[int], slots: int) -> None:
    accepts = covered(sorted(up), slots)

    assert set(accepts) == up
    assert sorted(slot for own in accepts.values() for slot in own) == (list(range(slots)) if up else [])
    assert all(slot in own for slot, own in accepts.items())


def test_the_slots_that_are_down_are_spread_over_those_that_are_up() -> None:
    assert covered([0, 3], 6) == {0: (0, 1, 4), 3: (2, 3, 5)}
