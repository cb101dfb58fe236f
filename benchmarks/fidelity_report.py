"""What each mode gives up, in tables and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import tables, targets
from benchmarks.modes import EXPLICIT, LABELS, MODES
from benchmarks.output import Report
from benchmarks.ratios import exactly
from experiments.statistics import interval

EXACT, ROUNDED = 1e-5, 1e-3  # how closely a mode has to match the published code

AGAINST_PUBLISHED = {
    "params": lambda row: f"{row['params']:.1e}",
    "radii": lambda row: f"{row['radii']:.1e}",
    "anchor": lambda row: f"{row['drift']:.1e}",
}
QUICKSTART = {
    "ID": lambda row: f"{row['id']:.1%}",
    "OOD": lambda row: f"{row['ood']:.1%}",
    "ID - explicit": lambda row: difference(row["id_apart"]),
    "OOD - explicit": lambda row: difference(row["ood_apart"]),
    "params": lambda row: f"{row['params']:.1e}",
    "radii": lambda row: f"{row['radii']:.1e}",
}
LEGEND = (
    "Golden: largest difference from the parameters and radii that the published code"
    " went through, and of the anchor from where it was, after the noisy run."
    " Quickstart: mean accuracies over seeds, their differences from those of the"
    " explicit mode with a 95 % interval, in points, and the largest differences of"
    " parameters and radii at the end."
)


def difference(values: Sequence[float]) -> str:
    """Mean and interval in points, such as `+0.02 +- 0.10`."""
    mean, half = interval([100 * value for value in values])
    return f"{mean:+.2f} +- {half:.2f}" if half == half else f"{mean:+.2f}"


def summarised(quickstart: Mapping[str, Sequence[Mapping]]) -> dict[str, dict]:
    """The columns of each mode, from its runs.

    Args:
      quickstart: by mode, one record per seed; the explicit mode's among them.
    """
    beside = {run["seed"]: run for run in quickstart.get(EXPLICIT, ())}
    rows = {}
    for name, runs in quickstart.items():
        mean = lambda key, runs=runs: sum(run[key] for run in runs) / len(runs)
        apart = lambda key, runs=runs: [
            run[key] - beside[run["seed"]][key] for run in runs
        ]
        rows[name] = {
            "id": mean("id"),
            "ood": mean("ood"),
            "id_apart": apart("id"),
            "ood_apart": apart("ood"),
            "params": max(run["params"] for run in runs),
            "radii": max(run["radii"] for run in runs),
        }
    return rows


def verdicts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which modes match the published code, keep the anchor and the accuracies."""
    found = []
    for name, row in results["golden"].items():
        rounded = "displacement_dtype" in MODES[name].arguments
        bound = ROUNDED if rounded else EXACT
        text = f"FTP ({LABELS[name]}) matches the published code to {bound:g}"
        worst = exactly(max(row.values()))
        found.append(targets.judge(text, worst, bound, at_most=True))
    for name, drift in results["drift"].items():
        steps = results["noisy_steps"]
        text = f"The anchor of FTP ({LABELS[name]}) stays to 1e-5 for {steps} steps"
        found.append(targets.judge(text, exactly(drift), 1e-5, at_most=True))
    for name, row in summarised(results["quickstart"]).items():
        for key in ("id", "ood"):
            if name == EXPLICIT:
                continue
            mean, half = interval([100 * x for x in row[f"{key}_apart"]])
            text = f"FTP ({LABELS[name]}) is as good as explicit, {key.upper()}, points"
            off = exactly(max(abs(mean) - half, 0.0) if half == half else abs(mean))
            found.append(targets.judge(text, off, 0.0, at_most=True))
    return found


def of(results: Mapping[str, Any]) -> Report:
    """One table against the published code, one of the quickstart, the verdicts."""
    golden = {
        LABELS[name]: {**row, "drift": results["drift"].get(name, float("nan"))}
        for name, row in results["golden"].items()
    }
    shown = [
        tables.of(
            f"Golden trajectories, and {results['noisy_steps']} noisy steps",
            "FTP",
            AGAINST_PUBLISHED,
            golden,
        )
    ]
    if rows := summarised(results["quickstart"]):
        seeds = len(next(iter(results["quickstart"].values())))
        title = (
            f"Quickstart, {seeds} seeds, {results['steps']} steps at"
            f" {results['learning_rate']:g}"
        )
        named = {LABELS[name]: row for name, row in rows.items()}
        shown.append(tables.of(title, "FTP", QUICKSTART, named))
    lines = [targets.line(found, "here") for found in verdicts(results)]
    return Report(shown, LEGEND, lines)
