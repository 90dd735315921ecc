"""How sessions are named and found: their titles, and a search in what was said."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from workers.models.content import text_of
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.store.shard import ShardStore
from workers.turns import SearchFound

MAX_SEARCHED_BYTES = 8 * 1024 * 1024  # of messages, in one search of a shard
ROWS_AT_ONCE = 20  # messages that are read in one operation of the store: commits wait no longer for it


async def rename(key: str, title: str | None, shard: OwnedShard, sessions: Residents) -> None:
    """Give a session a title, or take it away.

    Raises:
        Refusal: ``session_not_found``; ``shard_unavailable``.
        StoreFailed: the disk does not answer.
    """
    async with sessions.alone(key):  # it is not deleted meanwhile
        await sessions.session_id(key, shard)
        await shard.store.entitle(key, title)


async def search(transcripts: Mapping[str, str], text: str, store: ShardStore) -> SearchFound:
    """The sessions whose title or messages have a text, in any case of letters.

    Args:
        transcripts: ids of the transcripts to search, by session key.
        text: what to look for.
        store: of their shard.

    Raises:
        StoreFailed: the disk does not answer.
    """
    wanted, left, whole = text.casefold(), MAX_SEARCHED_BYTES, True
    titles = await store.titles([*transcripts])
    found = [key for key, title in titles.items() if wanted in title.casefold()]
    for key, session_id in transcripts.items():
        if key in found:
            continue
        says_it, left = await _says(session_id, wanted, store, left)
        if says_it:
            found.append(key)
        whole = whole and (says_it or left > 0)
    return SearchFound(keys=found, whole=whole)


async def _says(session_id: str, wanted: str, store: ShardStore, left: int) -> tuple[bool, int]:
    """Whether a transcript has a text, as far as ``left`` bytes tell, and how many bytes are left."""
    after = 0
    while left > 0:
        rows = await store.page(session_id, after, ROWS_AT_ONCE)
        if any(says(row.body, wanted) for row in rows):
            return True, left
        left -= sum(len(row.body) for row in rows)
        if len(rows) < ROWS_AT_ONCE:
            break
        after = rows[-1].seq
    return False, left


def says(body: bytes, wanted: str) -> bool:
    """Whether a person or the model says a text in a message.

    Args:
        body: a chat message as JSON.
        wanted: the text, casefolded.
    """
    message = orjson.loads(body)
    return message["role"] in ("user", "assistant") and wanted in text_of(message.get("content")).casefold()
