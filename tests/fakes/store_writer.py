"""A process that runs turns on one shard until it is killed or fenced off; each line says what is on disk.

python -m fakes.store_writer FILE FENCE
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog
from fakes.store_samples import ended, submission

from workers.store.journal import Journal
from workers.store.shard import StaleFence
from workers.store.sqlite import SqliteShard, open_shard

SESSIONS = 16
FENCED_OFF = 3  # exit code


def say(what: str, turn_id: str) -> None:
    os.write(1, f"{what} {turn_id}\n".encode())


async def converse(store: SqliteShard, fence: int, session: int) -> None:
    """Turn after turn; the store says when it is over."""
    for at in range(1_000_000):
        turn_id, session_id = f"turn_{fence}_{session}_{at}", f"sess_{session}"
        await store.admit(submission(turn_id, messages=[b"message"]), session_id, "queued")
        say("queued", turn_id)
        await store.append(turn_id, session_id, [b"call"])
        say("called", turn_id)
        await store.finish(ended(turn_id, session_id=session_id), [b"result", b"answer"])
        say("ended", turn_id)


async def main(path: Path, fence: int) -> int:
    try:
        store = (await open_shard(Journal(), path, shard=3, fence=fence, durability="process")).store
        await asyncio.gather(*(converse(store, fence, session) for session in range(SESSIONS)))
    except StaleFence:
        return FENCED_OFF
    raise AssertionError("it ends by force only")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]))))
