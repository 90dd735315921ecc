"""A shard store in memory, which can be made to fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workers.store.shard import PastTurn, ShardStore, StoreFailed, TranscriptRow, TurnRow
from workers.turns import Ended, Submission, TurnState


class FakeShardStore(ShardStore):
    """Keeps what it is given; ``journal`` tells in which order."""

    def __init__(self) -> None:
        self.rows: dict[str, TurnRow] = {}
        self.messages: dict[str, list[bytes]] = {}  # by turn id
        self.journal: list[tuple[str, str]] = []
        self.broken: set[str] = set()  # operations that fail
        self.models: dict[str, str] = {}
        self.own_fault: set[str] = set()

    def _write(self, operation: str, turn_id: str) -> None:
        if operation in self.broken:
            raise StoreFailed("database or disk is full")
        self.journal.append((operation, turn_id))

    async def admit(self, submission: Submission, session_id: str, state: TurnState) -> None:
        self._write(f"admit {state}", submission.turn_id)
        self.rows[submission.turn_id] = TurnRow(
            submission=submission, session_id=session_id, state=state, created_at=0.0, ended=None
        )

    async def begin(self, turn_id: str) -> None:
        self._write("begin", turn_id)
        self.rows[turn_id] = replace(self.rows[turn_id], state="running")

    async def append(self, turn_id: str, session_id: str, rows: Sequence[bytes]) -> None:
        self._write("append", turn_id)
        self._add(turn_id, rows)

    async def finish(self, ended: Ended, rows: Sequence[bytes], *, own_fault: bool = False) -> None:
        self._write(f"finish {ended.state}", ended.turn_id)
        self._add(ended.turn_id, rows)
        self.rows[ended.turn_id] = replace(self.rows[ended.turn_id], state=ended.state, ended=ended)  # type: ignore[arg-type]  # a final state
        if own_fault:
            self.own_fault.add(ended.turn_id)

    def _add(self, turn_id: str, rows: Sequence[bytes]) -> None:
        self.messages.setdefault(turn_id, list(self.rows[turn_id].submission.messages)).extend(rows)

    async def find(self, key: str, idempotency_key: str) -> TurnRow | None:
        wanted = (key, idempotency_key)
        found = (r for r in self.rows.values() if (r.submission.key, r.submission.idempotency_key) == wanted)
        return next(found, None)

    async def turn(self, turn_id: str) -> TurnRow | None:
        return self.rows.get(turn_id)

    async def unfinished(self) -> list[TurnRow]:
        return [row for row in self.rows.values() if row.state in ("queued", "running")]

    async def transcript(self, session_id: str) -> list[PastTurn]:
        return [
            PastTurn(
                turn_id=turn_id,
                state=self.rows[turn_id].state,
                own_fault=turn_id in self.own_fault,
                rows=tuple(rows),
            )
            for turn_id, rows in self.messages.items()
            if self.rows[turn_id].session_id == session_id
        ]

    async def page(self, session_id: str, after: int, limit: int) -> list[TranscriptRow]:
        rows = [(past.turn_id, body) for past in await self.transcript(session_id) for body in past.rows]
        numbered = [TranscriptRow(seq=at, turn_id=turn, body=body) for at, (turn, body) in enumerate(rows, 1)]
        return [row for row in numbered if row.seq > after][:limit]

    async def retract(self, turn_id: str) -> None:
        self._write("retract", turn_id)
        self.messages.pop(turn_id, None)

    async def chosen_model(self, key: str) -> str | None:
        return self.models.get(key)

    async def choose_model(self, key: str, model: str | None) -> None:
        if model is None:
            self.models.pop(key, None)
        else:
            self.models[key] = model

    async def counts(self, key: str) -> dict[str, Any]:
        return dict(Counter(row.state for row in self.rows.values() if row.submission.key == key))

    async def delete(self, key: str) -> bool:
        turns = [turn_id for turn_id, row in self.rows.items() if row.submission.key == key]
        for turn_id in turns:
            del self.rows[turn_id]
            self.messages.pop(turn_id, None)
        return bool(turns)

    async def prune(self, before: float) -> int:
        return 0

    async def close(self) -> None:
        self.journal.append(("close", ""))
