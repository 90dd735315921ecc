"""Any order of operations on the SQLite shard leaves what the same order leaves in a plain model of it."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes.store_samples import Clock, ended, submission
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from workers.store.journal import Journal
from workers.store.shard import StoreFailed, TurnOver
from workers.store.sqlite import SqliteShard, open_shard
from workers.turns import PastTurn, Submission

KEYS = ("api:default:anna", "api:default:ben")
NAMES = (None, "again")
DAY_S = 24 * 3600.0

bodies = st.lists(st.binary(max_size=4), max_size=40)
final_states = st.sampled_from(["completed", "failed", "interrupted", "cancelled"])


@dataclass
class ModelTurn:
    submission: Submission
    session_id: str
    state: str
    created_at: float
    own_fault: bool = False
    ended_at: float | None = None
    in_transcript: bool = False
    rows: list[bytes] = field(default_factory=list)
    named: bool = True  # its Idempotency-Key still counts

    @property
    def unfinished(self) -> bool:
        return self.state in ("queued", "running")


class ShardMachine(RuleBasedStateMachine):
    """The store beside the model; every rule does the same to both."""

    turns: Bundle[str] = Bundle("turns")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.model: dict[str, ModelTurn] = {}
        self.made = 0
        self.fence = 0

    @initialize()
    def start(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.fence += 1
        self.journal = Journal()
        path = Path(self.directory.name, "03.db")
        opened = await open_shard(self.journal, path, shard=3, fence=self.fence, durability="process", now=self.clock)
        self.store: SqliteShard = opened.store

    async def _close(self) -> None:
        await self.store.close()
        await self.journal.close()

    def teardown(self) -> None:
        if self.fence:
            self.runner.run(self._close())
        self.runner.close()
        self.directory.cleanup()

    def _named(self, key: str, name: str | None) -> ModelTurn | None:
        """The turn that an Idempotency-Key names, in the model."""
        oldest = self.clock.time - DAY_S
        return next(
            (
                turn
                for turn in self.model.values()
                if (turn.submission.key, turn.submission.idempotency_key) == (key, name)
                and turn.named
                and turn.created_at > oldest
            ),
            None,
        )

    @rule(
        target=turns,
        key=st.sampled_from(KEYS),
        name=st.sampled_from(NAMES),
        stateless=st.booleans(),
        messages=bodies,
        state=st.sampled_from(["queued", "running"]),
    )
    def admit(
        self, key: str, name: str | None, stateless: bool, messages: list[bytes], state: str
    ) -> str | MultipleResults[str]:
        self.made += 1
        turn_id, session_id = f"turn_{self.made}", f"sess_{key}"
        sent = submission(turn_id, key=key, idempotency_key=name, stateless=stateless, messages=messages)
        admitting = self.store.admit(sent, session_id, state)  # type: ignore[arg-type]  # a state
        if name is not None and self._named(key, name):
            with pytest.raises(StoreFailed):
                self.runner.run(admitting)
            return multiple()
        self.runner.run(admitting)
        for turn in self.model.values():
            if name is not None and (turn.submission.key, turn.submission.idempotency_key) == (key, name):
                turn.named = False
        self.model[turn_id] = ModelTurn(sent, session_id, state, self.clock.time, rows=list(messages))
        return turn_id

    @rule(turn_id=turns, was_reset=st.booleans())
    def begin(self, turn_id: str, was_reset: bool) -> None:
        turn = self.model.get(turn_id)
        if turn is None or not turn.unfinished:
            with pytest.raises(TurnOver):
                self.runner.run(self.store.begin(turn_id, "sess"))
            return
        if turn.state == "queued" and was_reset:
            turn.session_id = f"fresh_{turn.submission.key}"
        self.runner.run(self.store.begin(turn_id, turn.session_id))
        turn.state = "running"

    @rule(turn_id=turns, rows=bodies)
    def append(self, turn_id: str, rows: list[bytes]) -> None:
        turn = self.model.get(turn_id)
        if turn is None or not turn.unfinished:
            with pytest.raises(TurnOver):
                self.runner.run(self.store.append(turn_id, "sess", rows))
            return
        self.runner.run(self.store.append(turn_id, turn.session_id, rows))
        self._write(turn, rows)

    @rule(turn_id=turns, rows=bodies, state=final_states, own_fault=st.booleans())
    def finish(self, turn_id: str, rows: list[bytes], state: str, own_fault: bool) -> None:
        turn = self.model.get(turn_id)
        if turn is None or not turn.unfinished:
            with pytest.raises(TurnOver):
                self.runner.run(self.store.finish(ended(turn_id, state=state), rows))
            return
        end = ended(turn_id, session_id=turn.session_id, state=state)
        self.runner.run(self.store.finish(end, rows, own_fault=own_fault))
        turn.state, turn.own_fault, turn.ended_at = state, own_fault, self.clock.time
        self._write(turn, rows)

    def _write(self, turn: ModelTurn, rows: list[bytes]) -> None:
        if not turn.submission.stateless:
            turn.in_transcript = True
            turn.rows += rows

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        there = [turn_id for turn_id, turn in self.model.items() if turn.submission.key == key]
        assert self.runner.run(self.store.delete(key)) == bool(there)
        for turn_id in there:
            del self.model[turn_id]

    @rule()
    def half_a_day_goes_by(self) -> None:
        self.clock.time += DAY_S / 2

    @rule()
    def prune(self) -> None:
        before = self.clock.time - DAY_S
        old = {i: t for i, t in self.model.items() if t.created_at < before and not t.unfinished}
        while self.runner.run(self.store.prune(before)):
            pass
        for turn_id, turn in old.items():
            turn.named = False
            if turn.submission.stateless:
                del self.model[turn_id]

    @rule()
    def the_next_owner_opens_it(self) -> None:
        self.runner.run(self._close())
        self.runner.run(self._open())

    @invariant()
    def transcripts_agree(self) -> None:
        sessions = [f"{name}_{key}" for name in ("sess", "fresh") for key in KEYS]
        for session_id in sessions if self.fence else ():
            mine = [
                PastTurn(
                    turn_id=i,
                    state=t.state,  # type: ignore[arg-type]  # a state
                    own_fault=t.own_fault,
                    rows=tuple(t.rows),
                    ended_at=t.ended_at,
                )
                for i, t in self.model.items()
                if t.session_id == session_id and t.in_transcript and t.rows
            ]
            assert self.runner.run(self.store.transcript(session_id)) == mine
            page = self.runner.run(self.store.page(session_id, 0, 10_000))
            assert [(row.turn_id, row.body) for row in page] == [(p.turn_id, body) for p in mine for body in p.rows]

    @invariant()
    def turns_agree(self) -> None:
        for turn_id, turn in self.model.items():
            row = self.runner.run(self.store.turn(turn_id))
            assert row is not None
            kept = not turn.submission.stateless or turn.unfinished
            assert row.submission.messages == (turn.submission.messages if kept else [])
            assert (row.state, row.session_id, row.created_at) == (turn.state, turn.session_id, turn.created_at)
            assert (row.ended is None) == turn.unfinished

    @invariant()
    def names_and_the_unfinished_agree(self) -> None:
        if not self.fence:
            return
        unfinished = self.runner.run(self.store.unfinished())
        assert [row.submission.turn_id for row in unfinished] == [i for i, t in self.model.items() if t.unfinished]
        for key in KEYS:
            found, mine = self.runner.run(self.store.find(key, "again")), self._named(key, "again")
            assert (found and found.submission.turn_id) == (mine and mine.submission.turn_id)


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=settings().max_examples // 6, stateful_step_count=25)  # real files
