"""The tables of a group. A new one is one more function under `table` here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from experiments.records import flat
from experiments.report.comparison import in_words
from experiments.report.frame import (
    REFERENCE,
    Group,
    Trial,
    frontier,
    paired,
    rate_words,
)
from experiments.report.measures import corruptions, kernels, layer_words, layers
from experiments.statistics import interval


class Best(str):
    """The text of a cell that is marked: the best of its column, or what was chosen."""

    __slots__ = ()


class Table(NamedTuple):
    """What a page shows.

    Attributes:
      cells: of text, those that are marked as `Best`; the first column are words.
      folded: whether it is shown on demand only.
    """

    title: str
    caption: str
    cells: pd.DataFrame
    folded: bool


Rows = Iterable[Mapping[str, str]]  # text by heading
TABLES: list[Callable[[Group], Table | None]] = []


def table(title: str, caption: str, *, folded: bool = False) -> Callable[..., Any]:
    """Registers a function that gives the rows of a table, none without numbers."""

    def register(make: Callable[[Group], Rows]) -> Callable[[Group], Table | None]:
        def made(group: Group) -> Table | None:
            cells = _cells(make(group))
            return None if cells.empty else Table(title, caption, cells, folded)

        TABLES.append(made)
        return made

    return register


def _cells(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame([*rows], dtype=object).fillna("–")


def tables(group: Group) -> list[Table]:
    """All tables that the group has numbers for."""
    return [found for make in TABLES if (found := make(group))]


def overview(groups: Sequence[Group]) -> Table | None:
    """A row for each method and a column for each group; none of a single group."""
    # What was only tried out on the way to the final runs is left to its own section.
    groups = [g for g in groups if g.shared.stage != "tune"] or groups
    if len(groups) < 2:
        return None
    cells: dict[str, dict[str, str]] = {}
    for group in groups:
        means = {m: t.mean(group.shift) for m, t in group.chosen.items()}
        best = group.column(group.shift).best(means) if group.shift else []
        for method, trial in group.chosen.items():
            row = cells.setdefault(method, {"Method": trial.label})
            row[group.title] = _marked(_pair(group, trial), method in best)
    return Table(
        "All comparisons at a glance",
        "ID test / mean over what is out of distribution (or corrupted) at the chosen"
        " settings. The best robustness of a column is marked.",
        _cells(cells.values()),
        folded=False,
    )


# ---- Chosen settings ---------------------------------------------------------------


@table(
    "Every method at its chosen setting",
    "Shares in per cent; mean ± 95 % Student-t interval over seeds, where there are two"
    " or more that differ. Settings are chosen on ID validation alone. The best of a"
    " column are marked.",
)
def headline(group: Group) -> Rows:
    shown = {key: group.column(key) for key in group.columns}
    means = {k: {m: t.mean(k) for m, t in group.chosen.items()} for k in shown}
    best = {key: look.best(means[key]) for key, look in shown.items()}
    if group.start:
        row = {"Method": f"Start ({group.shared.start})", "Setting": "", "Seeds": ""}
        yield row | {c.label: c.text(group.start.get(k)) for k, c in shown.items()}
    for method, trial in group.chosen.items():
        row = {"Method": trial.label, "Setting": trial.setting or "–"}
        yield (
            row
            | {"Seeds": _seeds(trial)}
            | {
                look.label: _marked(look.text(trial.get(key)), method in best[key])
                for key, look in shown.items()
            }
        )


@table(
    "FTP against the others",
    "FTP minus the other, in points, at their chosen settings and paired by seed.",
)
def differences(group: Group) -> Rows:
    for method, other in group.chosen.items():
        if method == REFERENCE or REFERENCE not in group.chosen:
            continue
        reference = group.chosen[REFERENCE]
        seeds = set(reference.runs["seed"]) & set(other.runs["seed"])
        row = {"Against": other.label, "Seeds": str(len(seeds))}
        for key in group.headline:
            look, value = group.column(key), paired(reference, other, key)
            said = f" ({look.verdict(value)})" if value else ""
            row[look.label] = look.text(value, "+") + said
        yield row


# ---- All settings ------------------------------------------------------------------


@table(
    "Learning rate and strength",
    "ID test / OOD (or corrupted) of every setting; the chosen ones are marked.",
)
def rates(group: Group) -> Rows:
    rated = [trial for trial in group.trials if not math.isnan(trial.rate)]
    every = sorted({trial.rate for trial in rated})
    rows: dict[Any, dict[str, str]] = {}
    for trial in rated if len(rated) > len({t.method for t in rated}) else ():
        key = trial.method, trial.strength_words
        names = {"Method": trial.label, "Strength": trial.strength_words}
        row = rows.setdefault(key, names | {rate_words(rate): "–" for rate in every})
        cell = _marked(_pair(group, trial), trial in group.chosen.values())
        row[rate_words(trial.rate)] = cell
    return rows.values()


@table(
    "The frontier of ID and OOD",
    "Settings on the convex hull of all, what was chosen, and mixtures of chosen"
    " weights, α of them, with those of the start. Against the hull: how far above it,"
    " in points, at the same ID; – where ID is better than on all of it.",
)
def on_frontier(group: Group) -> Rows:
    looks = [group.column("id"), group.column(group.shift)]
    found = frontier(group)
    for row in found.to_dict("records") if len(found) else ():
        kinds = [kind for kind in ("hull", "chosen") if row[kind]]
        if math.isnan(row["alpha"]) and not kinds:
            continue
        yield {
            "Point": _marked(row["name"], row["hull"]),
            "What": ", ".join(kinds) or "mixture",
            looks[0].label: looks[0].mean_text(row["id"]),
            looks[1].label: looks[1].mean_text(row["shift"]),
            "Against the hull": looks[1].mean_text(row["above"], "+"),
        }


@table(
    "The whole sweep",
    "Shares in per cent, over the seeds that ran. The chosen setting of each method is"
    " marked.",
    folded=True,
)
def sweep(group: Group) -> Rows:
    if len(group.trials) == len(group.chosen):
        return
    keys = [k for k in group.columns if k in ("id_val", "id", "ood", "corruption")]
    keys += [key for key in group.columns if key.endswith("robustness")]
    for trial in group.trials:
        yield {
            "Method": _marked(trial.label, trial is group.chosen[trial.method]),
            "Rate": "–" if math.isnan(trial.rate) else rate_words(trial.rate),
            "Strength": trial.strength_words or "–",
            "Seeds": _seeds(trial),
            **{group.column(k).label: group.column(k).text(trial.get(k)) for k in keys},
        }


# ---- Corruptions and layers --------------------------------------------------------


@table("Corruptions of the ID test set", "Mean over the severities.")
def by_corruption(group: Group) -> Rows:
    return _corruptions(
        group, lambda wide: wide.T.groupby(level=0, sort=False).mean().T
    )


@table("Corruptions, by severity", "5 is the most severe.", folded=True)
def by_severity(group: Group) -> Rows:
    return _corruptions(group, lambda wide: wide)


def _corruptions(group: Group, part: Callable[[Any], Any]) -> Rows:
    """A row for each column of a `part` of the metric by corruption and severity."""
    look, found = group.column("id"), {}
    for method, trial in group.chosen.items():
        wide = part(corruptions(trial.records, group.metric.name))
        found[method] = {key: interval(v.dropna().tolist()) for key, v in wide.items()}
    for key in dict.fromkeys(key for by in found.values() for key in by):
        name = key if isinstance(key, str) else f"{key[0]} {key[1]}"
        best = look.best({m: by[key].mean for m, by in found.items() if key in by})
        yield {"Corruption": name.replace("_", " ")} | {
            trial.label: _marked(look.text(found[m].get(key)), m in best)
            for m, trial in group.chosen.items()
        }


@table(
    "Drift per layer",
    "Kernels in forward order: the largest L1 norm of a row of the change, and in"
    " brackets its share of the kernel's own largest row norm at the start, unless that"
    " is zero. Mean over seeds, at the chosen settings.",
    folded=True,
)
def drift(group: Group) -> Rows:
    def text(row: Mapping[str, float]) -> str:
        share = row["relative"]
        return f"{row['drift']:.3g}" + ("" if math.isnan(share) else f" ({share:.1%})")

    return _layers(group, "drift", {"": text})


@table(
    "Radius per layer",
    "How far a row of each kernel may move, at the selected step, and the share of rows"
    " that the last step had to shorten. Mean over seeds, at the chosen settings.",
    folded=True,
)
def radius(group: Group) -> Rows:
    bound = lambda row: "–" if math.isnan(row["bound"]) else f"{row['bound']:.0%}"
    texts = {" radius": lambda row: f"{row['radius']:.2g}", " bound": bound}
    return _layers(group, "radius", texts)


def _layers(group: Group, needs: str, texts: Mapping[str, Callable]) -> Rows:
    """A row for each kernel that any method has `needs` of, `texts` by heading."""
    rows: dict[str, dict[str, str]] = {}
    for trial in group.chosen.values():
        found = kernels(layers(trial.records)).dropna(subset=[needs])
        for name, values in found.iterrows():
            row = rows.setdefault(str(name), {"Layer": layer_words(str(name))})
            row |= {trial.label + head: text(values) for head, text in texts.items()}
    return rows.values()


@table("Settings", "Of all runs, and what they ran on.", folded=True)
def settings(group: Group) -> Rows:
    ran = {"versions": {}, "machine": ""}
    every = [
        flat(record["config"] | {k: record.get(k, none) for k, none in ran.items()})
        for record in group.runs["record"]
    ]
    for name in dict.fromkeys(name for options in every for name in options):
        values = list(dict.fromkeys(in_words(o[name]) for o in every if name in o))
        yield {"Option": name, "Value": "; ".join(values)}


# ---- Cells -------------------------------------------------------------------------


def _marked(text: str, marked: bool) -> str:
    return Best(text) if marked else text


def _seeds(trial: Trial) -> str:
    diverged = sum(record["status"] == "diverged" for record in trial.records)
    return f"{len(trial.runs)}{f', {diverged} diverged' if diverged else ''}"


def _pair(group: Group, trial: Trial) -> str:
    """ID and shift, without intervals."""
    keys = [key for key in ("id", group.shift) if key]
    return " / ".join(group.column(key).mean_text(trial.mean(key)) for key in keys)
