"""The results as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.figures import Figure
from scaling.stage import Phase

SHOWN_USE = 5.0  # a limit of nothing is missed beyond all bounds
_COLOURS = {"gateway": "tab:blue", "floor": "tab:grey", "direct": "tab:olive"}


def plot(path: Path, figures: Sequence[Figure], phases: Sequence[Phase]) -> None:
    """Four panels: rates, how long turns took (loaded, and one at a time), and how much of each limit is used.

    Raises:
        ImportError: matplotlib is not there (it comes with the extra ``bench``).
    """
    import matplotlib as mpl  # an extra: the table and the JSON do without

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of the backend

    drawing, ((rates, limits), (loaded, single)) = plt.subplots(2, 2, figsize=(14, 10), layout="constrained")
    _plot_rates(rates, [figure for figure in figures if figure.unit == "/s" and figure.against == "floor"])
    _plot_limits(limits, figures)
    _plot_latencies(loaded, [phase for phase in phases if phase.measurement == "throughput"], "Under load")
    _plot_latencies(single, [phase for phase in phases if phase.measurement == "latency"], "One turn at a time")
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def _plot_rates(axes: Any, figures: Sequence[Figure]) -> None:
    for place, figure in enumerate(figures):
        for offset, name, of in ((-0.2, "gateway", figure.value), (0.2, figure.against, figure.baseline)):
            assert of is not None
            whiskers = [[of.median - of.low], [of.high - of.median]]
            axes.bar(place + offset, of.median, 0.36, yerr=whiskers, color=_COLOURS[name], capsize=4)
    axes.set_xticks(range(len(figures)), [figure.name for figure in figures])
    axes.set(title="Turns a second (median, least and greatest round)")
    if figures:
        axes.legend(("gateway", "floor"))


def _plot_limits(axes: Any, figures: Sequence[Figure]) -> None:
    judged: list[tuple[str, float, str]] = [
        (figure.name, limit.use(figure.judged_value), kind)
        for figure in reversed(figures)
        for kind, limit in (("budget", figure.budget), ("target", figure.target))
        if limit is not None
    ]
    names = [f"{name}\n({kind})" for name, _, kind in judged]
    colours = ["tab:green" if use <= 1 else "tab:red" for _, use, _ in judged]
    axes.barh(names, [min(use, SHOWN_USE) for _, use, _ in judged], color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_title("Limits used (beyond 1: missed)")
    axes.tick_params(axis="y", labelsize=7)


def _plot_latencies(axes: Any, phases: Sequence[Phase], title: str) -> None:
    for name in sorted({phase.target for phase in phases}):
        took = sorted(ms for phase in phases if phase.target == name for ms in phase.outcome.latencies_ms)
        axes.step(took, [(rank + 1) / len(took) for rank in range(len(took))], label=name, color=_COLOURS[name])
    axes.set(title=title, xlabel="ms", ylabel="share of turns that took no longer", xscale="log")
    axes.grid(visible=True, alpha=0.3)
    if phases:
        axes.legend()
