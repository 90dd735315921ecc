"""The results: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text
from scaling.figures import Figure, Limit, Spread
from scaling.machine import Machine
from scaling.stage import Phase

_NONE = "—"
_STYLES = {"meets": "green", "misses": "bold red"}


# -- for people -----------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, or all digits of a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _told(spread: Spread | None, unit: str = "") -> str:
    if spread is None:
        return _NONE
    told = f"{number(spread.median)} {unit}".strip()
    return told if len(spread.rounds) == 1 else f"{told} ({number(spread.low)}-{number(spread.high)})"


def _judged(figure: Figure, limit: Limit | None) -> Text:
    if limit is None:
        return Text(_NONE)
    sign = "≥" if limit.kind == "at least" else "≤"
    of = f"x {figure.against}" if figure.judged == "ratio" else figure.unit.partition(" ")[0]
    verdict = limit.verdict(figure.judged_value)
    return Text(f"{sign} {limit.bound:g} {of}: ").append(verdict, _STYLES[verdict])


def table(machine: Machine, figures: Sequence[Figure], phases: Sequence[Phase]) -> Table:
    """All figures: medians over the rounds, least and greatest in brackets."""
    caption = f"{_place(machine)}\n{honesty(phases)}"
    shown = Table(title="Scaling benchmarks", caption=caption, caption_justify="left")
    shown.add_column("figure")
    for column in ("value", "compared with", "ratio", "target", "budget"):
        shown.add_column(column, justify="right")
    for figure, following in zip_longest(figures, figures[1:]):
        shown.add_row(
            figure.name,
            _told(figure.value, figure.unit),
            _NONE if figure.baseline is None else f"{figure.against} {_told(figure.baseline)}",
            _told(figure.ratio),
            _judged(figure, figure.target),
            _judged(figure, figure.budget),
            end_section=following is not None and following.measurement != figure.measurement,
        )
    return shown


def _place(machine: Machine) -> str:
    return (
        f"{machine.cores} cores ({machine.cpu}), Python {machine.python}, Linux {machine.kernel}, {machine.scratch}: "
        f"{machine.commit_ms:.2f} ms a durable commit; revision {machine.commit}."
    )


def honesty(phases: Sequence[Phase]) -> str:
    """How much of the machine the benchmark did not have."""
    if not phases:
        return ""
    others = Spread(tuple(phase.outcome.others_percent for phase in phases))
    steal = Spread(tuple(phase.outcome.steal_percent for phase in phases))
    return (
        f"Under load, other processes took {others.median:.0f} % of one core (at most {others.high:.0f} %), "
        f"the hypervisor {steal.median:.0f} % (at most {steal.high:.0f} %)."
    )


# -- for machines ---------------------------------------------------------------------------------------------------


def as_data(
    machine: Machine, figures: Sequence[Figure], phases: Sequence[Phase], failed: dict[str, str]
) -> dict[str, Any]:
    """Everything but the raw latencies, as plain data."""
    return {
        "machine": asdict(machine),
        "failed": failed,
        "figures": [_figure(figure) for figure in figures],
        "phases": [_phase(phase) for phase in phases],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    def judged(limit: Limit | None) -> dict[str, Any] | None:
        if limit is None:
            return None
        return asdict(limit) | {"of": figure.judged, "verdict": limit.verdict(figure.judged_value)}

    def spread(of: Spread | None) -> dict[str, Any] | None:
        return None if of is None else {"median": of.median, "low": of.low, "high": of.high, "rounds": of.rounds}

    return {
        "measurement": figure.measurement,
        "name": figure.name,
        "unit": figure.unit,
        "value": spread(figure.value),
        "baseline": spread(figure.baseline),
        "against": figure.against if figure.baseline else None,
        "ratio": spread(figure.ratio),
        "target": judged(figure.target),
        "budget": judged(figure.budget),
    }


def _phase(phase: Phase) -> dict[str, Any]:
    outcome, plan = phase.outcome, phase.plan
    return {
        "measurement": phase.measurement,
        "target": phase.target,
        "message": plan.message,
        "beside": phase.beside,
        "stream": plan.stream,
        "concurrency": plan.concurrency,
        "turns": outcome.turns,
        "seconds": outcome.seconds,
        "turns_per_s": phase.turns_per_s,
        "latency_ms": {f"p{share * 100:g}": phase.latency_ms(share) for share in (0.5, 0.95, 0.99, 1)},
        "cpu_s": outcome.cpu_s,
        "others_percent": outcome.others_percent,
        "steal_percent": outcome.steal_percent,
    }


def write(out: Path, data: dict[str, Any], phases: Sequence[Phase]) -> None:
    """``results.json``, and every latency in ``latencies.json``: in the order of its phases, in milliseconds."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2))
    raw = [{"latencies_ms": p.outcome.latencies_ms, "first_token_ms": p.outcome.first_token_ms} for p in phases]
    (out / "latencies.json").write_bytes(orjson.dumps(raw))
