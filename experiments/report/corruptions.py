"""What each corruption does to each method."""

from collections.abc import Callable

import numpy as np

from experiments.report.measures import corruption_measures, percent
from experiments.report.summarise import Group, Trial
from experiments.report.table import Cell, Table
from experiments.statistics import Interval, interval

Severities = dict[str, dict[int, Interval]]  # corruption -> severity -> metric


def severity_intervals(trial: Trial) -> Severities:
    """Metric over seeds by corruption and severity; severity 0 holds their mean."""
    found: dict[str, dict[int, list[float]]] = {}
    for run in trial.runs.values():
        for name, by_severity in corruption_measures(run).items():
            with_mean = by_severity | {0: float(np.mean(list(by_severity.values())))}
            for severity, value in with_mean.items():
                found.setdefault(name, {}).setdefault(severity, []).append(value)
    return {
        name: {severity: interval(values) for severity, values in sorted(by.items())}
        for name, by in found.items()
    }


def severities_of(group: Group) -> set[int]:
    """The severities, 1 to 5, that any chosen run was shown."""
    runs = [run for m in group.methods.values() for run in m.chosen.runs.values()]
    return {s for run in runs for by in corruption_measures(run).values() for s in by}


def corruptions(group: Group) -> Table | None:
    """A row for each corruption, mean over its severities."""
    return _corruption_table(
        group,
        "corruptions",
        "Corruptions of the ID test set",
        "In per cent, mean over the severities.",
        lambda severity: severity == 0,
    )


def severities(group: Group) -> Table | None:
    """A row for each corruption and severity."""
    return _corruption_table(
        group,
        "severities",
        "Corruptions, by severity",
        "In per cent; 5 is the most severe.",
        lambda severity: severity > 0,
    )


def _corruption_table(
    group: Group, key: str, title: str, caption: str, shown: Callable[[int], bool]
) -> Table | None:
    methods = list(group.methods.values())
    found = [severity_intervals(method.chosen) for method in methods]
    rows = []
    for name in dict.fromkeys(name for by_name in found for name in by_name):
        by_method = [by_name.get(name, {}) for by_name in found]
        for severity in sorted({s for by in by_method for s in by if shown(s)}):
            values = [by.get(severity) for by in by_method]
            best = max((v.mean for v in values if v), default=None)
            text = name.replace("_", " ") + (f" {severity}" if severity else "")
            cells = [
                Cell(percent(v), v and v.mean, v is not None and v.mean == best)
                for v in values
            ]
            rows.append([Cell(text), *cells])
    heads = ["Corruption", *(method.label for method in methods)]
    return Table(key, title, caption, heads, rows) if rows else None
