"""From the records of all runs to the chosen settings, the table and the conclusion."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from experiments.quickstart.run_directory import run_name
from experiments.quickstart.training import METHODS
from experiments.statistics import Interval, interval

COLUMNS = {
    "id_val": "ID val",
    "id": "ID test",
    "kept": "Kept",
    "held_out": "Corrupted",
    "ood": "OOD",
}
PRETRAINED = "Pre-trained"


def summarise(
    runs: Mapping[str, Any],
    methods: Sequence[str],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, Any] | None:
    """Means and intervals of the seeds that finished everything.

    Args:
      runs: records by name, with an accuracy in [0, 1] per column.
      methods: keys of `METHODS`.
      learning_rates: the grid, the same for every method.
      seeds: those asked for.

    Returns:
      None if no seed finished everything, else
      `seeds`: those that did;
      `pretrained`: `{column: Interval}`;
      `sweep`: `{method: {learning rate: {column: Interval}}}`;
      `values`: the same with one number per seed instead of an interval;
      `selected`: `{method: learning rate}`.
    """
    names = {
        seed: [run_name(m, seed, lr) for m in methods for lr in learning_rates]
        for seed in seeds
    }
    complete = [seed for seed in seeds if all(name in runs for name in names[seed])]
    if not complete:
        return None

    def per_seed(kind: str, rate: float | None = None) -> dict[str, list[float]]:
        records = [runs[run_name(kind, seed, rate)] for seed in complete]
        return {column: [r[column] for r in records] for column in COLUMNS}

    values = {m: {lr: per_seed(m, lr) for lr in learning_rates} for m in methods}
    sweep = {m: {lr: _intervals(v) for lr, v in values[m].items()} for m in methods}
    return {
        "seeds": complete,
        "pretrained": _intervals(per_seed("pretrain")),
        "sweep": sweep,
        "values": values,
        "selected": {m: select(sweep[m]) for m in methods},
    }


def select(sweep: Mapping[float, Mapping[str, Interval]]) -> float:
    """The rate with the best mean ID validation accuracy; the smallest of equals."""
    return max(sorted(sweep), key=lambda lr: round(sweep[lr]["id_val"].mean, 9))


def _intervals(values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    return {column: interval(v) for column, v in values.items()}


def percent(value: Interval, sign: str = "") -> str:
    """Formats `98.1±0.4`, from shares to per cent."""
    mean = f"{100 * value.mean:{sign}.1f}"
    if math.isnan(value.half_width):
        return mean
    return f"{mean}±{100 * value.half_width:.1f}"


def results_table(summary: Mapping[str, Any]) -> Table:
    """One row per method, at the rate chosen on ID validation."""
    seeds = len(summary["seeds"])
    table = Table(
        title=f"Accuracy in %, mean over {seeds} seed{'s' * (seeds > 1)}"
        + (" ± 95 % interval" if seeds > 1 else ""),
        caption="Kept: domains of the pre-training. Corrupted: never trained on. OOD:"
        " the mean over all of both.",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Method")
    table.add_column("Rate", justify="right")
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    start = summary["pretrained"]
    table.add_row(PRETRAINED, "", *(percent(start[c]) for c in COLUMNS))
    for method, rate in summary["selected"].items():
        row = summary["sweep"][method][rate]
        table.add_row(METHODS[method], f"{rate:g}", *(percent(row[c]) for c in COLUMNS))
    return table


def sweep_table(summary: Mapping[str, Any]) -> Table:
    """ID and OOD accuracy of every method at every rate; the chosen ones are marked."""
    table = Table(
        title="The whole sweep: ID test / OOD mean, in % (* chosen)",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Rate", justify="right")
    for method in summary["sweep"]:
        table.add_column(METHODS[method], justify="right")
    first = next(iter(summary["sweep"].values()))
    for rate in first:
        cells = []
        for method, sweep in summary["sweep"].items():
            mark = "*" if summary["selected"][method] == rate else " "
            row = sweep[rate]
            cells.append(
                f"{100 * row['id'].mean:.1f} / {100 * row['ood'].mean:.1f} {mark}"
            )
        table.add_row(f"{rate:g}", *cells)
    return table


def conclusion(summary: Mapping[str, Any]) -> list[str]:
    """What the numbers say, whoever they favour."""
    selected, sweep = summary["selected"], summary["sweep"]
    chosen = {METHODS[m]: sweep[m][rate] for m, rate in selected.items()}
    lines = []
    for column in ("id", "ood"):
        best = max(chosen, key=lambda name: chosen[name][column].mean)
        lines.append(
            f"Highest {COLUMNS[column]} after fine-tuning: {best},"
            f" {percent(chosen[best][column])}"
            f" (pre-trained {percent(summary['pretrained'][column])})."
        )
    for other in (m for m in selected if m != "ftp" and "ftp" in selected):
        lines.append(_comparison(summary, "ftp", other))
    lines += _own_choices(summary)
    ranges = []
    for method, rates in sweep.items():
        ood = {rate: row["ood"].mean for rate, row in rates.items()}
        worst = min(ood, key=lambda rate: ood[rate])
        ranges.append(
            f"{METHODS[method]} {100 * max(ood.values()):.1f} to"
            f" {100 * ood[worst]:.1f} (at {worst:g})"
        )
    lines.append(f"OOD mean over the whole sweep, best to worst: {'; '.join(ranges)}.")
    return lines


def _own_choices(summary: Mapping[str, Any]) -> list[str]:
    """What would have come out had each seed chosen its rate for itself.

    One shared choice can hang on a few validation images. These intervals hold the
    noise of the choice too.
    """
    if len(summary["seeds"]) < 2:
        return []
    columns = {}
    for method, by_rate in summary["values"].items():
        picks = [
            max(sorted(by_rate), key=lambda rate: by_rate[rate]["id_val"][seed])
            for seed in range(len(summary["seeds"]))
        ]
        columns[method] = {
            column: interval([by_rate[r][column][i] for i, r in enumerate(picks)])
            for column in ("id", "ood")
        }
    parts = [
        f"{METHODS[m]} {percent(c['id'])} / {percent(c['ood'])}"
        for m, c in columns.items()
    ]
    return [f"Had each seed chosen its own rate, ID test / OOD: {'; '.join(parts)}."]


def _comparison(summary: Mapping[str, Any], method: str, other: str) -> str:
    # Both started from the same weights and saw the same batches: pair them by seed.
    a = summary["values"][method][summary["selected"][method]]
    b = summary["values"][other][summary["selected"][other]]
    parts = []
    for column in ("id", "ood"):
        difference = interval(
            [x - y for x, y in zip(a[column], b[column], strict=True)]
        )
        parts.append(
            f"{COLUMNS[column]} {percent(difference, '+')} points"
            f" ({_verdict(difference)})"
        )
    return (
        f"{METHODS[method]} against {METHODS[other]}, at their chosen rates, paired by"
        f" seed: {', '.join(parts)}."
    )


def _verdict(difference: Interval) -> str:
    if math.isnan(difference.half_width):
        return "one seed, no interval"
    if abs(difference.mean) <= difference.half_width:
        return "no clear difference"
    return "higher" if difference.mean > 0 else "lower"
