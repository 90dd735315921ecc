"""The kill matrix: at every fault point, kill a worker, the supervisor or everything, and count what is lost.

    python tests/kill_matrix/run.py [--only NAME] [--short] [--jobs N] [--json FILE] [--keep DIRECTORY]

A first run without a kill shows which points are reached, and how often. Exits 1 unless every figure is zero.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from kill_matrix.cell import Cell, Score, play
from kill_matrix.stage import Victim
from kill_matrix.workload import Act
from rich.console import Console
from rich.table import Table

from hermes_actors.wire.failpoints import POINTS

VICTIMS: tuple[Victim, ...] = get_args(Victim)
FIGURES = ("lost", "doubled", "stuck", "wrong_marks", "leaked")


def whole(seen: Counter[str], only: str) -> list[Cell]:
    """Every point that was seen, its first and a later occurrence, every victim."""
    return [
        Cell(point=point, nth=nth, victim=victim)
        for point in POINTS
        if only in point
        for nth in occurrences(seen[point])
        for victim in VICTIMS
    ]


def short(only: str) -> list[Cell]:
    """The cells of the short form."""
    return [
        Cell(point=point, nth=nth, victim=victim, acts=(act,)) for point, nth, victim, act in SHORT if only in point
    ]


# Point, occurrence, victim, the one act of the workload: every point is seen, and every kind of kill at each kind.
SHORT: Sequence[tuple[str, int, Victim, Act]] = (
    ("registry.committed", 3, "everything", "stop"),
    ("ledger.drafted", 1, "everything", "crash"),
    ("ledger.renamed", 1, "supervisor", "stop"),
    ("ledger.synced", 1, "everything", "stop"),
    ("answer.recorded", 12, "worker", "crash"),
    ("restart.prepared", 1, "supervisor", "restart"),
    ("drain.sent", 1, "everything", "restart"),
    ("seal.sent", 1, "worker", "stop"),
    ("seal.answered", 1, "supervisor", "stop"),
    ("cuts.recorded", 1, "everything", "stop"),
    ("cut.sent", 1, "worker", "restart"),
    ("exec", 1, "everything", "restart"),
    ("journal.commit", 30, "everything", "crash"),
    ("turn.admitted", 3, "worker", "crash"),
    ("turn.parked", 1, "everything", "restart"),
    ("turn.appended", 1, "everything", "crash"),
    ("turn.finished", 4, "supervisor", "crash"),
    ("turn.absolved", 1, "everything", "crash"),
    ("drain.sealed", 1, "supervisor", "stop"),
    ("cut.begun", 2, "worker", "stop"),
    ("recovery.recorded", 9, "everything", "crash"),
)


def occurrences(count: int) -> list[int]:
    """The first, and one in the later half that every run comes to."""
    return [1, max(2, round(count * 0.6))][: min(count, 2)]


async def run(cells: Sequence[Cell], jobs: int, keep: Path | None, told: Any) -> list[Score]:
    """Play these cells, so many at a time."""
    free = asyncio.Semaphore(jobs)

    async def one(cell: Cell) -> Score:
        async with free:
            score = await play(cell, keep)
        told(score)
        return score

    return list(await asyncio.gather(*map(one, cells)))


def totals(scores: Iterable[Score]) -> dict[str, int]:
    """The scorecard."""
    scores = list(scores)
    card = {
        "points tried": sum(score.cell is not None for score in scores),
        "not reached": sum(not score.reached for score in scores),
        "nobody there to kill": sum(score.cell is not None and score.reached and not score.killed for score in scores),
    }
    return card | {name: sum(len(getattr(score, name)) for score in scores) for name in FIGURES}


def unreachable(scores: Iterable[Score]) -> list[str]:
    """The points that no run came to."""
    seen = {point for score in scores for point in score.seen}
    return [point for point in POINTS if point not in seen]


def plain(score: Score) -> dict[str, Any]:
    """A score for a file."""
    wrong = {name: getattr(score, name) for name in FIGURES}
    return {
        "cell": str(score.cell),
        "reached": score.reached,
        "killed": score.killed,
        "took_s": round(score.took_s, 2),
        **wrong,
    }


async def main(arguments: argparse.Namespace) -> int:
    """Play, print, and say by the exit code whether all is well."""
    console = Console(stderr=True)
    began = time.monotonic()

    def told(score: Score) -> None:
        wrong = [f"{name}: {what}" for name in FIGURES for what in getattr(score, name)]
        wrong += [] if score.reached else ["not reached"]
        console.print(f"{'ok  ' if not wrong else 'FAIL'} {score.cell} ({score.took_s:.1f} s)", highlight=False)
        for line in wrong:
            console.print(f"       {line}", highlight=False)

    scores = [] if arguments.short else [await play(None, arguments.keep)]
    for first in scores:
        told(first)
    cells = short(arguments.only) if arguments.short else whole(scores[0].seen, arguments.only)
    scores += await run(cells, arguments.jobs, arguments.keep, told)
    unreached = unreachable(scores) if not arguments.only else []
    for point in unreached:
        console.print(f"FAIL no run comes to {point}", highlight=False)
    card = totals(scores) | {"points unreachable": len(unreached), "seconds": round(time.monotonic() - began)}
    table = Table("figure", "count")
    for name, figure in card.items():
        table.add_row(name, str(figure))
    console.print(table)
    if arguments.json is not None:
        report = {"totals": card, "unreachable": unreached, "cells": [plain(score) for score in scores]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if not unreached and all(score.clean for score in scores) else 1


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", default="", help="points whose name contains this")
    parser.add_argument("--short", action="store_true", help="some cells of every kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="cells at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores there")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="move the homes of runs that went wrong there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parsed(sys.argv[1:]))))
