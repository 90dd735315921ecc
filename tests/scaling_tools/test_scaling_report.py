from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from scaling import report
from scaling.figures import Figure, Limit, Spread, compared
from scaling.load import LOAD, Outcome, Plan
from scaling.machine import Machine, look_at_machine
from scaling.picture import plot
from scaling.stage import MODEL, SERVED, Phase

TURNS = compared(
    "turns",
    "/s",
    Spread((390.0, 400.0, 420.0)),
    Spread((1000.0, 1000.0, 1000.0)),
    target=Limit("at least", 0.35),
    budget=Limit("at least", 0.5),
)
IDLE = Figure(name="idle CPU", unit="% of a core", value=Spread((0.3,)))
MACHINE = Machine(
    measured_at="2026-01-01T00:00:00+00:00",
    commit="0123456789ab",
    python="3.12.1",
    kernel="6.1",
    cpu="abacus",
    cores=2,
    memory_gib=4.0,
    load_average=0.1,
    scratch="ext4",
    commit_ms=0.25,
)
PHASE = Phase(
    measurement="throughput",
    target="gateway",
    plan=Plan(url="http://127.0.0.1:1/v1/chat/completions"),
    outcome=Outcome(
        seconds=2.0,
        latencies_ms=[1.0, 3.0, 2.0, 4.0],
        first_token_ms=[],
        cpu_s={SERVED: 0.02, MODEL: 0.004, LOAD: 0.008},
        others_percent=12.0,
        steal_percent=1.0,
    ),
)


def shown(figures: list[Figure]) -> str:
    screen = Console(file=io.StringIO(), width=160)
    screen.print(report.table(MACHINE, figures, [PHASE]))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_table_tells_value_floor_ratio_and_verdicts() -> None:
    row = next(line for line in shown([TURNS, IDLE]).splitlines() if "turns" in line)

    for told in (
        "400 /s (390-420)",
        "floor 1,000",
        "0.4 (0.39-0.42)",
        "≥ 0.35 x floor: meets",
        "≥ 0.5 x floor: misses",
    ):
        assert told in row


def test_a_figure_without_limits_has_no_verdict() -> None:
    row = next(line for line in shown([TURNS, IDLE]).splitlines() if "idle" in line)

    assert row.count("—") == 4
    assert "0.3 % of a core" in row


def test_the_table_says_what_the_benchmark_did_not_have_of_the_machine() -> None:
    assert "other processes took 12 % of one core" in shown([TURNS])


def test_a_phase_is_told_per_turn() -> None:
    assert PHASE.turns_per_s == 2.0
    assert PHASE.cpu_ms(SERVED) == pytest.approx(5.0)
    assert PHASE.latency_ms(0.5) == 2.0


def test_the_results_carry_the_machine_every_round_and_every_latency(tmp_path: Path) -> None:
    data = report.as_data(look_at_machine(tmp_path), [TURNS, IDLE], [PHASE], {"recover": "no worker"})
    report.write(tmp_path / "out", data, [PHASE])

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["commit_ms"] > 0
    assert results["failed"] == {"recover": "no worker"}
    assert results["figures"][0]["value"]["rounds"] == [390.0, 400.0, 420.0]
    assert results["figures"][0]["budget"] == {"kind": "at least", "bound": 0.5, "of": "ratio", "verdict": "misses"}
    assert results["figures"][1]["baseline"] is None
    raw = json.loads((tmp_path / "out" / "latencies.json").read_text())
    assert raw == [{"latencies_ms": [1.0, 3.0, 2.0, 4.0], "first_token_ms": []}]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with the extra `bench`")

    starts = Figure(name="starts", unit="starts", value=Spread((1.0,)), target=Limit("at most", 0.0))

    plot(tmp_path / "results.png", [TURNS, IDLE, starts], [PHASE])

    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("value", "told"), [(0.4567, "0.457"), (3.0, "3"), (42.19, "42.2"), (12345.6, "12,346")])
def test_numbers_have_three_digits_or_all_of_a_whole_number(value: float, told: str) -> None:
    assert report.number(value) == told
