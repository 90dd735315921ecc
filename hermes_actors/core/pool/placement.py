"""Which slot owns which shard, and which worker accepts connections for one that is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def place(current: Mapping[int, int], shards: int, slots: int) -> tuple[int, ...]:
    """The slot of each shard. Slots differ by at most one shard, and as few shards as possible move from ``current``.

    Args:
        current: shard -> slot, where there is one; slots that no longer exist are allowed.
        shards: how many shards there are.
        slots: how many slots there are, at least one.
    """
    held: list[list[int]] = [[] for _ in range(slots)]
    for shard in range(shards):
        slot = current.get(shard, -1)
        if 0 <= slot < slots:
            held[slot].append(shard)
    least, extra = divmod(shards, slots)
    fullest_first = sorted(range(slots), key=lambda slot: (-len(held[slot]), slot))
    quota = {slot: least + (rank < extra) for rank, slot in enumerate(fullest_first)}
    placed = {shard: slot for slot in range(slots) for shard in held[slot][: quota[slot]]}
    homeless = iter([shard for shard in range(shards) if shard not in placed])
    for slot in range(slots):
        for _ in range(quota[slot] - min(len(held[slot]), quota[slot])):
            placed[next(homeless)] = slot
    return tuple(placed[shard] for shard in range(shards))


def covered(up: Sequence[int], slots: int) -> dict[int, tuple[int, ...]]:
    """The slots on whose sockets each serving worker accepts: its own, and evenly those of workers that are down."""
    accepts = {slot: [slot] for slot in up}
    down = [slot for slot in range(slots) if slot not in accepts]
    if up:
        for index, slot in enumerate(down):
            accepts[up[index % len(up)]].append(slot)
    return {slot: tuple(sorted(own)) for slot, own in accepts.items()}
