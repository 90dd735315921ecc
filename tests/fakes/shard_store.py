"""A shard store in memory, which can be made slow and made to fail."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from hermes_actors.wire.records import LatestTurn
from workers.store.packing import kept_end, kept_origin, origin_of, packed, unpack
from workers.store.shard import (
    CopiedTurn,
    ShardStore,
    StoredConversation,
    StoreFailed,
    Summary,
    TranscriptCopy,
    TranscriptRow,
    TurnOver,
    TurnRow,
)
from workers.turns import Ended, PastTurn, Submission, TurnState

P = ParamSpec("P")
T = TypeVar("T")


def operation(
    work: Callable[Concatenate[FakeShardStore, P], T],
) -> Callable[Concatenate[FakeShardStore, P], Coroutine[Any, Any, T]]:
    """As the journal does it: in the order of the calls, answered later, and done also where nobody waits any more."""

    @functools.wraps(work)
    async def submitted(self: FakeShardStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self.closed:
            raise StoreFailed("the store is closed")
        try:
            result = work(self, *args, **kwargs)
        except StoreFailed:
            await self.answer(work.__name__)
            raise
        await self.answer(work.__name__)
        return result

    return submitted


class FakeShardStore(ShardStore):
    """Keeps what it is given; ``journal`` tells in which order."""

    def __init__(self) -> None:
        self.rows: dict[str, TurnRow] = {}
        self.messages: dict[str, list[bytes]] = {}  # by turn id
        self.journal: list[tuple[str, str]] = []
        self.broken: set[str] = set()  # operations that fail: "admit running", "finish completed", "turn", …
        self.gates: dict[str, asyncio.Event] = {}  # by method: answers are held back until it is set
        self.responses: dict[str, dict[str, Any]] = {}  # what was asked, by turn id
        self.models: dict[str, str] = {}
        self.titled: dict[str, str] = {}  # by session key
        self.own_fault: set[str] = set()
        self.ended_at: dict[str, float] = {}  # by turn id
        self.took: dict[str, list[float]] = {}  # by session key
        self.summaries: dict[str, Summary] = {}  # by session id
        self.closed = False
        self.highest = 0  # it numbers no turns

    def reopened(self) -> FakeShardStore:
        """What the next owner finds."""
        store = FakeShardStore()
        store.rows, store.own_fault, store.models = dict(self.rows), set(self.own_fault), dict(self.models)
        store.responses, store.titled = dict(self.responses), dict(self.titled)
        store.ended_at, store.summaries = dict(self.ended_at), dict(self.summaries)
        store.messages = {turn_id: list(rows) for turn_id, rows in self.messages.items()}
        return store

    async def answer(self, method: str) -> None:
        await asyncio.sleep(0)
        if method in self.gates:
            await self.gates[method].wait()

    def _read(self, operation: str) -> None:
        if operation in self.broken:
            raise StoreFailed("database or disk is full")

    def _write(self, operation: str, turn_id: str) -> None:
        self._read(operation)
        self.journal.append((operation, turn_id))

    @operation
    def admit(
        self, submission: Submission, session_id: str, state: TurnState, *, instead_of: str | None = None
    ) -> None:
        if submission.turn_id in self.rows:
            raise StoreFailed("UNIQUE constraint failed: turns.turn_id")
        self._write(f"admit {state}", submission.turn_id)
        if instead_of is not None:
            self.messages.pop(instead_of, None)
        if submission.response is not None:
            self.responses[submission.turn_id] = submission.response
        self.rows[submission.turn_id] = TurnRow(
            submission=submission, session_id=session_id, state=state, created_at=0.0, ended=None
        )

    @operation
    def begin(self, turn_id: str, session_id: str) -> None:
        self._unfinished(turn_id)
        self._write("begin", turn_id)
        self.rows[turn_id] = replace(self.rows[turn_id], state="running", session_id=session_id)

    @operation
    def append(self, turn_id: str, session_id: str, rows: Sequence[bytes]) -> None:
        self._unfinished(turn_id)
        self._write("append", turn_id)
        self._add(turn_id, rows)

    @operation
    def finish(self, ended: Ended, rows: Sequence[bytes], *, own_fault: bool = False) -> None:
        self._unfinished(ended.turn_id)
        self._write(f"finish {ended.state}", ended.turn_id)
        self._add(ended.turn_id, rows)
        row = self.rows[ended.turn_id]
        self.rows[ended.turn_id] = replace(row, state=ended.state, session_id=ended.session_id, ended=ended)  # type: ignore[arg-type]  # a final state
        self.ended_at[ended.turn_id] = time.time()
        if own_fault:
            self.own_fault.add(ended.turn_id)

    def _unfinished(self, turn_id: str) -> None:
        if turn_id not in self.rows or self.rows[turn_id].ended is not None:
            raise TurnOver(f"turn {turn_id} is over, or its session was deleted")

    def _add(self, turn_id: str, rows: Sequence[bytes]) -> None:
        if not self.rows[turn_id].submission.stateless:
            self.messages.setdefault(turn_id, list(self.rows[turn_id].submission.messages)).extend(rows)

    @operation
    def find(self, key: str, idempotency_key: str) -> TurnRow | None:
        self._read("find")
        wanted = (key, idempotency_key)
        found = (r for r in self.rows.values() if (r.submission.key, r.submission.idempotency_key) == wanted)
        return next(found, None)

    @operation
    def turn(self, turn_id: str) -> TurnRow | None:
        self._read("turn")
        return self.rows.get(turn_id)

    @operation
    def unfinished(self) -> list[TurnRow]:
        return [row for row in self.rows.values() if row.ended is None]

    @operation
    def transcript(self, session_id: str) -> list[PastTurn]:
        self._read("transcript")
        return self._past(session_id)

    def _past(self, session_id: str) -> list[PastTurn]:
        return [
            PastTurn(
                turn_id=turn_id,
                state=self.rows[turn_id].state,
                own_fault=turn_id in self.own_fault,
                rows=tuple(rows),
                ended_at=self.ended_at.get(turn_id),
            )
            for turn_id, rows in self.messages.items()
            if self.rows[turn_id].session_id == session_id
        ]

    @operation
    def past_turn(self, turn_id: str) -> PastTurn | None:
        self._read("past_turn")
        row = self.rows.get(turn_id)
        past = [] if row is None else self._past(row.session_id)
        return next((turn for turn in past if turn.turn_id == turn_id), None)

    @operation
    def conversation(self, session_id: str) -> StoredConversation:
        self._read("transcript")
        past, summary = self._past(session_id), self.summaries.get(session_id)
        covered = [turn.turn_id for turn in past].index(summary.through) + 1 if summary is not None else 0
        return StoredConversation(summary=summary, past=past[covered:])

    @operation
    def summary(self, session_id: str) -> Summary | None:
        self._read("summary")
        return self.summaries.get(session_id)

    @operation
    def summarise(self, session_id: str, summary: Summary) -> None:
        self._write("summarise", session_id)
        self.summaries[session_id] = summary

    @operation
    def page(self, session_id: str, after: int, limit: int) -> list[TranscriptRow]:
        self._read("page")
        rows = [(past.turn_id, body) for past in self._past(session_id) for body in past.rows]
        numbered = [TranscriptRow(seq=at, turn_id=turn, body=body) for at, (turn, body) in enumerate(rows, 1)]
        return [row for row in numbered if row.seq > after][:limit]

    @operation
    def chosen_model(self, key: str) -> str | None:
        return self.models.get(key)

    @operation
    def choose_model(self, key: str, model: str | None) -> None:
        self._read("choose_model")
        if model is None:
            self.models.pop(key, None)
        else:
            self.models[key] = model

    @operation
    def titles(self, keys: Sequence[str]) -> dict[str, str]:
        self._read("titles")
        return {key: self.titled[key] for key in keys if key in self.titled}

    @operation
    def entitle(self, key: str, title: str | None) -> None:
        self._write("entitle", key)
        self.titled.pop(key, None)
        if title is not None:
            self.titled[key] = title

    @operation
    def counts(self, key: str) -> dict[str, Any]:
        self._read("counts")
        return dict(Counter(row.state for row in self.rows.values() if row.submission.key == key))

    @operation
    def durations(self, keys: Sequence[str], limit: int) -> dict[str, list[float]]:
        self._read("durations")
        return {key: self.took.get(key, [])[:limit] for key in keys}

    @operation
    def delete(self, key: str) -> bool:
        self._read("delete")
        self.titled.pop(key, None)
        turns = [turn_id for turn_id, row in self.rows.items() if row.submission.key == key]
        for turn_id in turns:
            del self.rows[turn_id]
            self.messages.pop(turn_id, None)
        return bool(turns)

    @operation
    def prune(self, before: float) -> int:
        return 0

    @operation
    def copy(self, key: str, session_id: str, through: str | None, max_bytes: int) -> TranscriptCopy | None:
        self._read("copy")
        past = [turn for turn in self._past(session_id) if self.rows[turn.turn_id].ended is not None]
        ids = [turn.turn_id for turn in past]
        count = len(ids) if through is None else ids.index(through) + 1 if through in ids else 0
        taken = past[:count]
        summary = self.summaries.get(session_id)
        if summary is not None and summary.through not in ids[: len(taken)]:
            summary = None
        copy = [self._copied(turn) for turn in taken]
        if sum(len(row) for turn in copy for row in turn.rows) > max_bytes:
            return None
        return TranscriptCopy(turns=copy, summary=summary)

    def _copied(self, turn: PastTurn) -> CopiedTurn:
        row = self.rows[turn.turn_id]
        assert row.ended is not None
        return CopiedTurn(
            turn_id=turn.turn_id,
            state=turn.state,
            own_fault=turn.own_fault,
            submitted=len(row.submission.messages),
            parameters=packed(row.submission.parameters),
            origin=packed(kept_origin(row.submission.origin)),
            created_at=row.created_at,
            started_at=None,
            ended_at=self.ended_at[turn.turn_id],
            ended=packed(kept_end(row.ended)),
            rows=list(turn.rows),
        )

    @operation
    def plant(self, key: str, principal: str, session_id: str, copy: TranscriptCopy) -> None:
        if any(turn.turn_id in self.rows for turn in copy.turns):
            raise StoreFailed("UNIQUE constraint failed: turns.turn_id")
        self._write("plant", copy.turns[-1].turn_id)
        for turn in copy.turns:
            submission = Submission(
                turn_id=turn.turn_id,
                key=key,
                principal=principal,
                stateless=False,
                messages=turn.rows[: turn.submitted],
                parameters=unpack(turn.parameters),
                idempotency_key=None,
                fingerprint=b"",
                origin=origin_of(unpack(turn.origin)),
            )
            fields: dict[str, Any] = {"session_id": session_id, "state": turn.state}
            end = Ended(turn_id=turn.turn_id, replayed=False, **fields, **unpack(turn.ended))
            self.rows[turn.turn_id] = TurnRow(submission=submission, created_at=turn.created_at, ended=end, **fields)
            self.messages[turn.turn_id], self.ended_at[turn.turn_id] = list(turn.rows), turn.ended_at
            if turn.own_fault:
                self.own_fault.add(turn.turn_id)
        if copy.summary is not None:
            self.summaries[session_id] = copy.summary

    @operation
    def response(self, turn_id: str) -> dict[str, Any] | None:
        self._read("response")
        return self.responses.get(turn_id)

    @operation
    def drop_response(self, turn_id: str) -> bool:
        return self.responses.pop(turn_id, None) is not None

    @operation
    def prune_responses(self, before: float) -> int:
        return 0

    @operation
    def through(self, turn_id: str) -> tuple[list[PastTurn], bool]:
        asked = self.rows[turn_id]
        past = self._past(asked.session_id)
        ids = [turn.turn_id for turn in past]
        of_key = [row.submission.turn_id for row in self.rows.values() if row.submission.key == asked.submission.key]
        return past[: ids.index(turn_id) + 1] if turn_id in ids else [], of_key[-1] == turn_id

    @operation
    def latest(self, after: int, limit: int) -> tuple[list[LatestTurn], int | None]:
        return [], None

    @operation
    def reported(self) -> None:
        self.journal.append(("reported", ""))

    @operation
    def prove(self) -> None:
        if "prove" in self.broken:
            raise StoreFailed("the disk is full")

    async def close(self) -> None:
        self.closed = True
        self.journal.append(("close", ""))
