"""An open shard store, for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.store_samples import Clock, Reopen

from workers.store.journal import Journal
from workers.store.shard import ShardStore
from workers.store.sqlite import open_shard


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    made = Journal()
    yield made
    await made.close()


@pytest.fixture(params=["sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, journal: Journal, clock: Clock) -> Reopen:
    """Each store that fulfils the interface has its way to be opened here."""

    async def sqlite(fence: int) -> ShardStore:
        path = tmp_path / "03.db"
        opened = await open_shard(journal, path, shard=3, fence=fence, durability="process", now=clock)
        assert opened.found.set_aside is None
        return opened.store

    return {"sqlite": sqlite}[request.param]


@pytest.fixture
async def store(reopen: Reopen) -> AsyncIterator[ShardStore]:
    opened = await reopen(1)
    yield opened
    await opened.close()
