"""Which shard a session key belongs to: the one function every process must agree on."""

from __future__ import annotations

from hashlib import blake2b


def shard_of(key: str, shards: int) -> int:
    """The shard, ``0 <= shard < shards``, of a session key.

    The same in every process and release: a key that moved to another shard would lose its transcript.
    BLAKE2b because Python's ``hash`` is salted per process.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % shards
