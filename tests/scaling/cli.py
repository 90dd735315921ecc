"""The scaling benchmarks: the gateway beside the floor and the bare model server, on this machine.

    python tests/scaling/run.py [--quick] [--only NAME]... [--out DIR] [--scratch DIR]

docs/howto/measure.md says what the figures mean.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from scaling import report
from scaling.figures import Figure
from scaling.machine import Machine, look_at_machine
from scaling.measurements import MEASUREMENTS
from scaling.picture import plot
from scaling.processes import ProcessFailed
from scaling.stage import QUICK, Effort, Phase, PhaseFailed, Stage, open_stage

RESULTS = Path(__file__).parent / "results"
FAILED = 1
INTERRUPTED = 130
FILE_WIDTH = 160  # of the table where it does not go to a terminal

console = Console(stderr=True)


@click.command(help="Measure the gateway beside the floor and the bare model server.")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: a look, not a figure to quote.")
@click.option("--only", "names", multiple=True, type=click.Choice(list(MEASUREMENTS)), help="May be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Where homes are made.")
def main(quick: bool, names: tuple[str, ...], out: Path, scratch: Path | None) -> None:
    """Run the benchmarks."""
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, _interrupt)
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="hermes-bench-", dir=scratch) as directory:
        place = Path(directory)
        machine = look_at_machine(place)
        try:
            with (
                _progress(len(names or MEASUREMENTS)) as (say, step),
                open_stage(place, QUICK if quick else Effort(), say) as stage,
            ):
                _measure(stage, names or tuple(MEASUREMENTS), figures, failed, step)
        except KeyboardInterrupt:
            console.print("Interrupted; everything that was started is stopped.")
            sys.exit(INTERRUPTED)
        except ProcessFailed as error:
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(FAILED)
    report.write(out, report.as_data(machine, figures, stage.phases, failed), stage.phases)
    _tell(out, machine, figures, stage.phases)
    for name, why in failed.items():
        console.print(f"[bold red]{name} failed:[/] ", end="")
        console.print(why, markup=False, highlight=False, soft_wrap=True)
    sys.exit(FAILED if failed else 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(
    stage: Stage, names: tuple[str, ...], figures: list[Figure], failed: dict[str, str], step: Callable[[], None]
) -> None:
    for name in names:
        stage.measurement = name
        try:
            figures += [replace(figure, measurement=name) for figure in MEASUREMENTS[name](stage)]
        except PhaseFailed as error:  # the others may still tell something
            failed[name] = str(error)
        except ProcessFailed as error:  # what does not start now will not start for the others
            failed[name] = str(error)
            return
        step()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Say what happens: a bar on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield lambda words: console.print(words, markup=False, highlight=False), lambda: None
        return
    columns = (
        SpinnerColumn(),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, refresh_per_second=2, transient=True) as progress:
        task = progress.add_task("starting the model server", total=total)
        yield lambda words: progress.update(task, description=words), lambda: progress.advance(task)


def _tell(out: Path, machine: Machine, figures: list[Figure], phases: list[Phase]) -> None:
    screen = Console()
    if not screen.is_terminal:
        screen.width = FILE_WIDTH
    screen.print(report.table(machine, figures, phases))
    written = [out / "results.json", out / "latencies.json"]
    try:
        plot(out / "results.png", figures, phases)
        written.append(out / "results.png")
    except ImportError:
        console.print("No picture: matplotlib is not installed (pip install -e '.[bench]').")
    console.print(*written, sep="\n", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
