"""The tables of a group: headline, differences, the sweep; and all groups at once."""

from collections.abc import Sequence

from experiments.report.conclusion import verdict
from experiments.report.corruptions import corruptions, severities
from experiments.report.drift import drift
from experiments.report.measures import (
    column,
    in_words,
    percent,
    rate,
    strength_in_words,
)
from experiments.report.summarise import Columns, Group, Method, Trial, in_order
from experiments.report.table import Cell, Table


def tables(group: Group) -> list[Table]:
    """All tables that the group has numbers for."""
    makers = (headline, differences, sweep, corruptions, severities, drift)
    return [table for make in makers if (table := make(group)) and table.rows]


def headline(group: Group) -> Table:
    """A row for each method at its chosen setting."""
    keys = group.columns
    best = {key: best_methods(group, key) for key in keys}
    rows = []
    if group.start:
        cells = [_interval_cell(group.start, key) for key in keys]
        rows.append([Cell(f"Start ({group.shared.start})"), Cell(""), Cell(""), *cells])
    for method in group.methods.values():
        trial = method.chosen
        cells = [
            _interval_cell(trial.columns, key, method.key in best[key]) for key in keys
        ]
        rows.append([*_names(method, trial), *cells])
    return Table(
        key="headline",
        title="Every method at its chosen setting",
        caption="In per cent; mean ± 95 % Student-t interval over seeds, where there"
        " are two or more that differ. Settings are chosen on ID validation alone. The"
        " best of a column are marked.",
        heads=["Method", "Setting", "Seeds", *(column(key).label for key in keys)],
        hints=["", "", "", *(column(key).hint for key in keys)],
        rows=rows,
        words=2,
    )


def differences(group: Group) -> Table | None:
    """A row for each method that the reference is set against."""
    found = [d for d in group.differences if d.columns]
    if not found:
        return None
    keys = list(found[0].columns)
    rows = []
    for difference in found:
        other = group.methods[difference.other]
        cells = [
            Cell(
                f"{percent(value, '+')} ({verdict(value)})" if value else "–",
                value.mean if value else None,
            )
            for value in (difference.columns.get(key) for key in keys)
        ]
        seeds = len(difference.seeds)
        rows.append(
            [
                Cell(other.label, method=other.key),
                Cell(str(seeds), seeds),
                *cells,
            ]
        )
    label = group.methods[found[0].method].label
    return Table(
        key="differences",
        title=f"{label} against the others",
        caption=f"{label} minus the other, in points, at their chosen settings and"
        " paired by seed.",
        heads=["Against", "Seeds", *(column(key).label for key in keys)],
        rows=rows,
    )


def sweep(group: Group) -> Table | None:
    """A row for each setting of each method, where there is a choice."""
    if all(len(method.trials) == 1 for method in group.methods.values()):
        return None
    keys = [
        key
        for key in (
            "id_val",
            "id",
            "ood",
            "corruption",
            "relative_robustness",
            "corruption_robustness",
        )
        if key in group.columns
    ]
    rows = []
    for method in group.methods.values():
        for trial in method.trials:
            setting, chosen = trial.setting, trial is method.chosen
            lr = setting.learning_rate
            rows.append(
                [
                    Cell(method.label, best=chosen, method=method.key),
                    Cell("–" if lr is None else rate(lr), lr),
                    Cell(strength_in_words(setting) or "–", setting.strength),
                    _seeds(trial),
                    *(_interval_cell(trial.columns, key) for key in keys),
                ]
            )
    return Table(
        key="sweep",
        title="The whole sweep",
        caption="In per cent, over the seeds that ran. The chosen setting of each"
        " method is marked.",
        heads=["Method", "Rate", "Strength", "Seeds", *(column(k).label for k in keys)],
        hints=["", "Learning rate", "", "", *(column(k).hint for k in keys)],
        rows=rows,
    )


def overview(groups: Sequence[Group]) -> Table | None:
    """A row for each method and a column for each group: ID / shift."""
    # What was only tried out on the way to the final runs is left to its own section.
    groups = [g for g in groups if g.shared.stage != "tune"] or groups
    if len(groups) < 2:
        return None
    labels = {m.key: m.label for group in groups for m in group.methods.values()}
    rows = []
    for key in in_order(labels):
        cells = []
        for group in groups:
            method = group.methods.get(key)
            columns = method.chosen.columns if method else {}
            pair = [columns.get(c) for c in ("id", group.shift) if c]
            text = " / ".join(f"{100 * v.mean:.1f}" if v else "–" for v in pair)
            last = pair[-1]
            best = key in best_methods(group, group.shift)
            cells.append(Cell(text if any(pair) else "–", last and last.mean, best))
        rows.append([Cell(labels[key], method=key), *cells])
    return Table(
        key="overview",
        title="All comparisons at a glance",
        caption="ID test / mean over what is out of distribution (or corrupted), in"
        " per cent, at the chosen settings. The best robustness of a column is marked.",
        heads=["Method", *(group.title for group in groups)],
        rows=rows,
    )


def _names(method: Method, trial: Trial) -> list[Cell]:
    return [
        Cell(method.label, method=method.key),
        Cell(in_words(trial.setting) or "–", trial.setting.learning_rate),
        _seeds(trial),
    ]


def _seeds(trial: Trial) -> Cell:
    count = len(trial.runs)
    note = f", {trial.diverged} diverged" if trial.diverged else ""
    return Cell(f"{count}{note}", count)


def _interval_cell(columns: Columns, key: str, best: bool = False) -> Cell:
    value = columns.get(key)
    return Cell(percent(value), value and value.mean, best)


def best_methods(group: Group, key: str | None) -> list[str]:
    """Those with the best mean of a column, all of equals; none without a rival."""
    high = column(key).high if key else None
    means = {
        name: round((1 if high else -1) * method.chosen.columns[str(key)].mean, 9)
        for name, method in group.methods.items()
        if key in method.chosen.columns
    }
    if high is None or len(means) < 2:
        return []
    return [name for name, mean in means.items() if mean == max(means.values())]
