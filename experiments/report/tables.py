"""The tables of a group. A new one is one more function under `table` here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from experiments.records import flat
from experiments.report.comparison import in_words
from experiments.report.frame import REFERENCE, Group, Trial, paired, rate_words
from experiments.report.frontier import frontier
from experiments.report.measures import Frame, kernels, layer_words, layers


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
    cells: Frame
    folded: bool


Rows = Iterable[Mapping[str, str]]  # text by heading
TABLES: list[Callable[[Group], Table]] = []


def table(title: str, *, folded: bool = False) -> Callable[..., Any]:
    """Registers a function that gives rows, and whose docstring is the caption."""

    def register(rows: Callable[[Group], Rows]) -> Callable[[Group], Rows]:
        TABLES.append(lambda group: _table(title, rows, group, folded))
        return rows

    return register


def _table(title: str, rows: Callable[..., Rows], of: Any, folded: bool) -> Table:
    cells = pd.DataFrame([*rows(of)], dtype=object).fillna("–")
    return Table(title, " ".join(str(rows.__doc__).split()), cells, folded)


def tables(group: Group) -> list[Table]:
    """All tables that the group has numbers for."""
    return [made for make in TABLES if not (made := make(group)).cells.empty]


def overview(groups: Sequence[Group]) -> list[Table]:
    """What several groups have beside each other."""
    # What was only tried out on the way to the final runs is left to its own section.
    groups = [g for g in groups if g.shared.stage != "tune"] or groups
    title = "All comparisons at a glance"
    return [_table(title, side_by_side, groups, False)] if len(groups) > 1 else []


def side_by_side(groups: Sequence[Group]) -> Rows:
    """ID test / mean over what is out of distribution (or corrupted) at the chosen
    settings. The best robustness of a column is marked where it beats the start.
    """
    rows: dict[str, dict[str, str]] = {}
    for group in groups:
        best = _best(group, group.shift)
        for method, trial in group.chosen.items():
            row = rows.setdefault(method, {"Method": trial.label})
            row[group.title] = _marked(_pair(group, trial), method in best)
    return rows.values()


# ---- Chosen settings ---------------------------------------------------------------


@table("Every method at its chosen setting")
def headline(group: Group) -> Rows:
    """Shares in per cent; mean ± 95 % Student-t interval over seeds, where there are
    two or more that differ. Settings are chosen on ID validation alone. The best of a
    column are marked where they beat the start.
    """
    looks = {key: group.column(key) for key in _compared(group)}
    texts = {key: _best_marked(group, key) for key in looks}
    if group.start:
        row = {"Method": f"Start ({group.shared.start})", "Setting": "", "Seeds": ""}
        yield row | {c.label: c.text(group.start.get(k)) for k, c in looks.items()}
    for method, trial in group.chosen.items():
        row = {"Method": trial.label, "Setting": trial.setting or "–"}
        row["Seeds"] = _seeds(trial)
        yield row | {look.label: texts[key][method] for key, look in looks.items()}


@table("FTP against the others")
def differences(group: Group) -> Rows:
    """FTP minus the other, in points, at their chosen settings and paired by seed."""
    reference = group.chosen.get(REFERENCE)
    for other in group.chosen.values() if reference else ():
        if not reference or other is reference:
            continue
        seeds = set(reference.runs["seed"]) & set(other.runs["seed"])
        row = {"Against": other.label, "Seeds": str(len(seeds))}
        for key in group.headline:
            look, value = group.column(key), paired(reference, other, key)
            said = f" ({look.verdict(value)})" if value else ""
            row[look.label] = look.text(value, "+") + said
        yield row


@table("Task after task")
def tasks(group: Group) -> Rows:
    """Every task, a column each, after each was learned; mean over seeds. Tasks of one
    place need not be of the same classes for two seeds.
    """
    for trial in group.chosen.values() if group.is_sequence else ():
        for number, row in enumerate(trial.tasks.to_dict("records"), 1):
            texts = {name: group.column("id").text(x) for name, x in row.items()}
            yield {"Method": trial.label, "After": str(number), **texts}


# ---- All settings ------------------------------------------------------------------


@table("Learning rate and strength")
def rates(group: Group) -> Rows:
    """ID test / OOD (or corrupted) of every setting; the chosen ones are marked."""
    rated = [trial for trial in group.trials if trial.words[1]]
    every = [rate_words(rate) for rate in sorted({trial.rate for trial in rated})]
    rows: dict[Any, dict[str, str]] = {}
    for trial in rated if len(rated) > len({t.method for t in rated}) else ():
        method, rate, strength = trial.words
        names = {"Method": method, "Strength": strength}
        row = rows.setdefault((method, strength), names | dict.fromkeys(every, "–"))
        row[rate] = _marked(_pair(group, trial), trial is group.chosen[trial.method])
    return rows.values()


@table("The frontier of ID and OOD")
def on_frontier(group: Group) -> Rows:
    """Settings on the convex hull of all, what was chosen, and mixtures of chosen
    weights, α of them, with those of the start. Against the hull: how far above it, in
    points, at the same ID; – where ID is better than on all of it.
    """
    at, shift = group.column("id"), group.column(group.shift)
    for row in frontier(group).to_dict("records"):
        kinds = [kind for kind in ("hull", "chosen") if row[kind]]
        if kinds or not math.isnan(row["alpha"]):
            yield {
                "Point": _marked(row["name"], row["hull"]),
                "What": ", ".join(kinds) or "mixture",
                at.label: at.text(row["id"]),
                shift.label: shift.text(row["shift"]),
                "Against the hull": shift.text(row["above"], "+"),
            }


@table("The whole sweep", folded=True)
def sweep(group: Group) -> Rows:
    """Shares in per cent, over the seeds that ran. The chosen setting of each method is
    marked.
    """
    looks = {k: group.column(k) for k in group.columns if not {"/", "@"} & {*k}}
    for trial in group.trials if len(group.trials) > len(group.chosen) else ():
        method, rate, strength = trial.words
        yield {
            "Method": _marked(method, trial is group.chosen[trial.method]),
            "Rate": rate or "–",
            "Strength": strength or "–",
            "Seeds": _seeds(trial),
            **{look.label: look.text(trial.get(key)) for key, look in looks.items()},
        }


# ---- Corruptions and layers --------------------------------------------------------


@table("Corruptions of the ID test set")
def by_corruption(group: Group) -> Rows:
    """Mean over the severities."""
    return _corruptions(group, depth=1)


@table("Corruptions, by severity", folded=True)
def by_severity(group: Group) -> Rows:
    """5 is the most severe."""
    return _corruptions(group, depth=2)


def _corruptions(group: Group, depth: int) -> Rows:
    """A row for each `corruption/<name>`, or each of these with its severity."""
    for key in group.columns:
        if key.startswith("corruption/") and key.count("/") == depth:
            row = {"Corruption": group.column(key).label.replace("/", " ")}
            texts = _best_marked(group, key)
            yield row | {group.chosen[m].label: text for m, text in texts.items()}


@table("Drift per layer", folded=True)
def drift(group: Group) -> Rows:
    """Kernels in forward order: the largest L1 norm of a row of the change, and in
    brackets its share of the kernel's own largest row norm at the start, unless that is
    zero. Mean over seeds, at the chosen settings; of a sequence, in its last task.
    """
    share = lambda row: "" if math.isnan(row["relative"]) else f" ({row.relative:.1%})"
    return _layers(group, "drift", {"": lambda row: f"{row.drift:.3g}{share(row)}"})


@table("Radius per layer", folded=True)
def radius(group: Group) -> Rows:
    """How far a row of each kernel may move, at the selected step, and the share of
    rows that the last step had to shorten. Mean over seeds, at the chosen settings; of
    a sequence, in its last task.
    """
    bound = lambda row: "–" if math.isnan(row["bound"]) else f"{row['bound']:.0%}"
    texts = {" radius": lambda row: f"{row['radius']:.2g}", " bound": bound}
    return _layers(group, "radius", texts)


def _layers(group: Group, needs: str, texts: Mapping[str, Callable]) -> Rows:
    """A row for each kernel that any method has `needs` of, `texts` by heading."""
    rows: dict[str, dict[str, str]] = {}
    for trial in group.chosen.values():
        leaves = kernels(layers(trial.records)).dropna(subset=needs)
        for name, values in leaves.iterrows():
            row = rows.setdefault(name, {"Layer": layer_words(name)})
            row |= {trial.label + head: text(values) for head, text in texts.items()}
    return rows.values()


# ---- What it rests on --------------------------------------------------------------


@table("Columns", folded=True)
def columns(group: Group) -> Rows:
    """What they hold."""
    for look in map(group.column, _compared(group)):
        yield {"Column": look.label, "Content": look.hint}


@table("Settings", folded=True)
def settings(group: Group) -> Rows:
    """Of all runs, and what they ran on."""
    ran = {"versions": {}, "machine": ""}
    every = [
        flat(record["config"] | {key: record.get(key) or ran[key] for key in ran})
        for record in group.runs["record"]
    ]
    for name in dict.fromkeys(name for options in every for name in options):
        values = dict.fromkeys(in_words(o[name]) for o in every if name in o)
        yield {"Option": name, "Value": "; ".join(values)}


# ---- Cells -------------------------------------------------------------------------


def _compared(group: Group) -> list[str]:
    """All columns but the parts of corruptions, which have tables of their own."""
    return [k for k in group.columns if not k.startswith(("corruption/", "severity/"))]


def _marked(text: str, marked: bool) -> str:
    return Best(text) if marked else text


def _best_marked(group: Group, key: str) -> dict[str, str]:
    """A column at the chosen settings, by method."""
    look, best = group.column(key), _best(group, key)
    values = group.by_method(key)
    return {key: _marked(look.text(v), key in best) for key, v in values.items()}


def _best(group: Group, key: str | None) -> list[str]:
    """The methods that are best in a column, and better than the start."""
    return group.column(key).best(group.by_method(key), group.start.get(str(key)))


def _seeds(trial: Trial) -> str:
    lost = trial.runs["diverged"].sum()
    return f"{len(trial.runs)}{f', {lost} diverged' if lost else ''}"


def _pair(group: Group, trial: Trial) -> str:
    """ID and shift, without intervals."""
    keys = [key for key in ("id", group.shift) if key]
    return " / ".join(group.column(key).text(trial.mean(key)) for key in keys)
