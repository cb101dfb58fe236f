"""Prints, plots and notes what has been finished so far."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from experiments.data import digits
from experiments.quickstart import plots, report
from experiments.quickstart.network import LAYERS
from experiments.quickstart.run_directory import RunDirectory, run_name
from experiments.statistics import Interval


def present(
    out: RunDirectory,
    methods: Sequence[str],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    tests: Mapping[str, np.ndarray],
    console: Console,
    draw: bool,
) -> None:
    """Reports the seeds that finished every run.

    Args:
      out: holds the records; takes the summary, and the plots if `draw`.
      methods: keys of `METHODS`.
      learning_rates: the grid.
      seeds: those asked for.
      tests: images by domain.
      console: to print on.
      draw: make the plots too.
    """
    if draw:
        plots.save_domains(examples(tests), out.path / "domains.png")
    summary = report.summarise(out.runs, methods, learning_rates, seeds)
    if summary is None:
        console.print("No seed has finished every run yet: nothing to compare.")
        return
    lines = report.conclusion(summary)
    console.print(report.results_table(summary), report.sweep_table(summary))
    for line in lines:
        console.print(f"- {line}", highlight=False, soft_wrap=True)
    out.metrics |= {"summary": _named(summary), "conclusion": lines}
    out.write()
    if draw:
        draw_summary(summary, out)


def draw_summary(summary: Mapping[str, Any], out: RunDirectory) -> None:
    """The plots that compare methods, and those of each method's chosen runs."""
    plots.save_sweep(summary, out.path / "sweep.png")
    plots.save_id_ood(summary, out.path / "id_ood.png")
    chosen = {
        method: [out.runs[run_name(method, seed, rate)] for seed in summary["seeds"]]
        for method, rate in summary["selected"].items()
    }
    drift = {method: mean_drift(records) for method, records in chosen.items()}
    plots.save_drift(drift, out.path / "drift.png")
    if "ftp" in chosen:
        steps, radii = mean_radii(chosen["ftp"])
        plots.save_radii(steps, radii, out.path / "radii.png")


def examples(
    tests: Mapping[str, np.ndarray], count: int = 6
) -> dict[str, dict[str, np.ndarray]]:
    """The first test images in each domain, by group."""
    groups = {
        "Narrow target": (digits.CLEAN,),
        "Pre-training": digits.KEPT,
        "Never trained on": digits.HELD_OUT,
    }
    return {
        group: {domain: tests[domain][:count] for domain in domains}
        for group, domains in groups.items()
    }


def _depth(path: str) -> tuple[int, str]:
    """Sorts leaves as they follow each other in the network."""
    layers = [i for i, layer in enumerate(LAYERS) if layer in path.split("/")]
    return (layers or [-1])[0], path


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if v is None else v for v in values])


def mean_drift(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean over seeds of each leaf's drift."""
    leaves = sorted(records[0]["drift"], key=_depth)
    return {k: float(_numbers([r["drift"][k] for r in records]).mean()) for k in leaves}


def mean_radii(
    records: Sequence[dict[str, Any]],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps, and the mean over seeds of each leaf's radius at those steps."""
    traces = [record["trace"] for record in records]
    radii = {
        key.removeprefix("radius/"): np.mean([_numbers(t[key]) for t in traces], axis=0)
        for key in sorted(traces[0], key=_depth)
        if key.startswith("radius/")
    }
    return np.array(traces[0]["step"]), radii


def _named(value: Any) -> Any:
    """Spells intervals out for the JSON."""
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, dict):
        return {k: _named(v) for k, v in value.items()}
    return value
