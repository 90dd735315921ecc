from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
from aiohttp.test_utils import TestServer
from scaling.floor import Floor, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@pytest.fixture
async def floor(model_url: str, database: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    with closing(open_store(database)) as store:
        async with (
            TestServer(Floor(f"{model_url}/chat/completions", store).application()) as server,
            openai.AsyncOpenAI(base_url=str(server.make_url("/v1")), api_key="-", max_retries=0) as client,
        ):
            yield client


def rows(database: Path) -> list[tuple[bytes, str]]:
    """What another connection sees: what is committed."""
    with closing(sqlite3.connect(database)) as reader:
        return reader.execute("SELECT message, answer FROM turns").fetchall()


async def test_an_answer_is_on_disk_when_it_arrives(floor: openai.AsyncOpenAI, database: Path) -> None:
    for text in ("[[tokens:2]]", "ping"):
        await floor.chat.completions.create(model="ok", messages=[{"role": "user", "content": text}])

    assert [answer for _, answer in rows(database)] == ["token0 token1", "token0"]
    assert b"[[tokens:2]]" in rows(database)[0][0]


async def test_a_stream_is_relayed_and_on_disk_when_it_ends(floor: openai.AsyncOpenAI, database: Path) -> None:
    stream = await floor.chat.completions.create(
        model="ok", messages=[{"role": "user", "content": "[[tokens:3]]"}], stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "token0 token1 token2"
    assert [answer for _, answer in rows(database)] == [text]


async def test_a_refusal_of_the_model_is_passed_on_and_not_stored(floor: openai.AsyncOpenAI, database: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="does not exist"):
        await floor.chat.completions.create(model="ok", messages=[{"role": "user", "content": "[[http:400]]"}])

    assert rows(database) == []


def test_a_commit_of_the_floor_survives_power_loss(database: Path) -> None:
    with closing(open_store(database)) as store:
        assert store.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
