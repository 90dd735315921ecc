"""One cell of the matrix: the workload, one kill at one point, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from kill_matrix import disk
from kill_matrix.desk import Desk
from kill_matrix.expected import Outlook, Standing, last_cut, outlooks, reasons
from kill_matrix.messages import Message, People
from kill_matrix.model import WorkloadModel
from kill_matrix.stage import LOOK_S, THRESHOLD, ControlLost, Stage, Victim, ask
from kill_matrix.workload import ACTS, Act, Workload, configuration

LINGER_S = 0.1  # between a point and its kill
CELL_S = 90.0  # for one run of the workload with all that is checked
AGREE_S = 5.0  # for marks and strikes to be as they must
SERVER = Path(__file__).parents[1] / "fakes" / "mcp_counting_raw.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Who is killed, when somebody comes to a point for the n-th time."""

    point: str
    nth: int
    victim: Victim
    acts: Sequence[Act] = ACTS  # of the workload

    @property
    def late(self) -> bool:
        """Whether it takes its time: to kill, and to start anew. The first at a point do all of it at once."""
        return self.nth > 1

    def __str__(self) -> str:
        return f"{self.point}#{self.nth}, {self.victim} killed"


@dataclass(slots=True, kw_only=True)
class Score:
    """What went wrong; empty lists are what is wanted."""

    cell: Cell | None  # None: nothing was killed but what the workload kills
    reached: bool = True
    killed: int = 0  # processes; a worker may be the victim where there is none yet
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong_marks: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    took_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)  # points, over the whole run

    @property
    def clean(self) -> bool:
        """Whether all is as it must be."""
        return self.reached and not (self.lost or self.doubled or self.stuck or self.wrong_marks or self.leaked)


async def play(cell: Cell | None, keep: Path | None = None) -> Score:
    """Run one cell on a gateway of its own.

    Args:
        cell: None for the workload alone.
        keep: where the home of a run that went wrong is moved to.
    """
    score = Score(cell=cell)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hm-") as directory:  # short: a socket's path has at most 107 bytes
        root = Path(directory)
        try:
            async with asyncio.timeout(CELL_S), _run(root, cell) as run:
                await run.play(score)
        except TimeoutError:
            score.stuck.append(f"not over after {CELL_S:g} s")
        if keep is not None and not score.clean:
            keep.mkdir(parents=True, exist_ok=True)
            root.rename(keep / "-".join(str(cell).replace("#", " ").replace(",", "").split()))
            root.mkdir()
    score.took_s = time.monotonic() - began
    return score


@asynccontextmanager
async def _run(root: Path, cell: Cell | None) -> AsyncIterator[_Run]:
    async with AsyncExitStack() as opened:
        counting = root / "counting"
        counting.mkdir()
        model = await opened.enter_async_context(WorkloadModel())
        desk = await opened.enter_async_context(Desk(root / "desk.sock"))
        config = configuration(model, counting, sys.executable, SERVER)
        stage = Stage(root / "home", config, desk, patient=cell is None or cell.late)
        http = await opened.enter_async_context(aiohttp.ClientSession())
        workload = Workload(stage, desk, model, People(stage, http), counting)
        await opened.enter_async_context(stage.open())
        opened.push_async_callback(workload.close)
        yield _Run(cell, stage, desk, model, workload)


class _Run:
    def __init__(self, cell: Cell | None, stage: Stage, desk: Desk, model: WorkloadModel, workload: Workload) -> None:
        self._cell = cell
        self._stage = stage
        self._desk = desk
        self._model = model
        self._workload = workload
        self._at_the_kill: list[disk.TurnOnDisk] = []
        self._undelivered: set[str] = set()

    async def play(self, score: Score) -> None:
        score.seen = self._desk.seen
        striking = asyncio.create_task(self._strike(score))
        try:
            await self._workload.run(ACTS if self._cell is None else self._cell.acts, enough=self._desk.held.done)
            score.reached = self._cell is None or self._desk.held.done()
            if score.reached:
                await striking
        except asyncio.CancelledError:  # it took too long
            score.stuck += self._unfinished()
            raise
        finally:
            striking.cancel()
        await self._check_marks(score)
        await self._workload.hello()
        await self._check_marks(score)
        self._check_turns(score)
        if (code := await self._stage.stop()) != 0:
            score.stuck.append(f"the last stop ended with {code}")
        score.leaked += [f"process {pid}" for pid in sorted(self._stage.leaked)]

    async def _strike(self, score: Score) -> None:
        """Kill, when the time has come, and look at what became of it before anybody says more."""
        if self._cell is None:
            return
        self._desk.arm(self._cell.point, self._cell.nth)
        held = await self._desk.held
        if self._cell.late:
            await asyncio.sleep(LINGER_S)  # what the others do meanwhile shall be done
        score.killed = self._stage.kill(self._cell.victim, self._worker(held.pid))
        self._at_the_kill = disk.turns(self._stage.home)
        told = {message.name for message in self._workload.messages.values() if message.outcome is not None}
        self._undelivered = {turn.turn_id for turn in self._at_the_kill if turn.message not in told}
        self._desk.release()
        async with self._stage.inspection():
            await self._check_marks(score)

    def _worker(self, held: int) -> int | None:
        """The worker that dies, if it is a worker: the one that is held, or one that has nothing to do with it."""
        return held if held != self._stage.pid else next(iter(self._stage.workers()), None)

    # -- marks and strikes ------------------------------------------------------------------------------------------
    async def _check_marks(self, score: Score) -> None:
        """They must come to be what the turns imply; what has no mark yet may be on its way to it."""
        deadline = time.monotonic() + AGREE_S
        while wrong := await self._wrong_marks():
            if time.monotonic() > deadline:
                score.wrong_marks += wrong
                return
            await asyncio.sleep(LOOK_S)

    async def _wrong_marks(self) -> list[str]:
        try:
            listed = await ask(self._stage.home, "sessions.list", limit=100, after=None)
        except ControlLost as error:
            return [str(error)]
        strikes = disk.strikes(self._stage.home)
        turns = [turn for turn in disk.turns(self._stage.home) if not turn.stateless]
        wrong = [
            f"strikes of {key}, no session" for key in strikes.keys() - {line["key"] for line in listed["sessions"]}
        ]
        for line in listed["sessions"]:
            of_session = [turn for turn in turns if turn.key == line["key"]]
            wrong += self._differences(line, strikes.get(line["key"], 0), of_session)
        return wrong

    def _differences(self, line: dict[str, Any], on_disk: int, turns: Sequence[disk.TurnOnDisk]) -> Iterator[str]:
        """What is wrong with a session, as it is listed and as the ledger's file has it."""
        key, windows = line["key"], self._stage.windows
        standing: Standing = (
            "suspended" if line["suspended"] else "resume_pending" if line["resume_pending"] else "clear"
        )
        is_so = Outlook(standing=standing, strikes=line["strikes"])
        may_be = outlooks(turns, windows, THRESHOLD, self._undelivered)
        if is_so not in may_be:
            yield f"{key}: is {is_so}, must be one of {sorted(map(str, may_be))}"
        if on_disk != line["strikes"]:
            yield f"{key}: has {line['strikes']} strikes, {on_disk} in the ledger's file"
        cut = last_cut(turns)
        allowed = frozenset[str]() if cut is None else reasons(cut, windows)
        if is_so.standing == "resume_pending" and line["resume_reason"] not in allowed:
            yield f"{key}: cut by {line['resume_reason']}, not one of {sorted(allowed)}"

    # -- turns ------------------------------------------------------------------------------------------------------
    def _check_turns(self, score: Score) -> None:
        turns = disk.turns(self._stage.home)
        of_message: dict[str | None, list[disk.TurnOnDisk]] = {}
        for turn in turns:
            of_message.setdefault(turn.message, []).append(turn)
            if turn.ended_at is None:
                score.stuck.append(f"{turn.message} is {turn.state}")
            if turn.state == "interrupted" and not reasons(turn, self._stage.windows):
                score.lost.append(f"{turn.message} was cut by nothing")
        counted = Counter(self._workload.counted())
        for name, message in self._workload.messages.items():
            score.lost += message.faults
            _check_message(message, of_message.get(name, []), counted[name], self._model.asked[name], score)
        kept = {turn.turn_id: turn.state for turn in turns}
        for turn in self._at_the_kill:
            if turn.turn_id not in kept or (turn.ended_at is not None and kept[turn.turn_id] != turn.state):
                score.lost.append(f"{turn.message} was {turn.state} when it was killed, then {kept.get(turn.turn_id)}")
        score.wrong_marks += self._model.faults

    def _unfinished(self) -> list[str]:
        return [f"{m.name} has no end" for m in self._workload.messages.values() if m.outcome is None]


def _check_message(message: Message, turns: Sequence[disk.TurnOnDisk], calls: int, requests: int, score: Score) -> None:
    if len(turns) != 1:
        (score.doubled if turns else score.lost).append(f"{message.name} has {len(turns)} turns")
        return
    (turn,) = turns
    if message.turn_ids - {turn.turn_id}:
        score.lost.append(f"{message.name}: its sender was told of another turn")
    if calls > 1 or requests > 1:
        score.doubled.append(f"{message.name}: {calls} tool calls, {requests} first requests")
    if turn.state == "completed" and (requests == 0 or calls < ("[tool=" in message.text)):
        score.lost.append(f"{message.name} is completed and was not done")
