"""From records to a data frame, a row a run; the settings chosen; what is compared."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.methods import METHODS
from experiments.report.comparison import Comparison, comparable
from experiments.report.measures import Column, column, measures, mixtures
from experiments.statistics import Interval, interval
from experiments.studies import GROUPS, Record
from experiments.tasks.task import Metric, metric, selection_score

REFERENCE = "ftp"  # the method that all others are set against
BASELINE = "fine-tune"
SYMBOLS = {"kappa": "κ", "alpha": "α", "lambda": "λ"}
ORDER = {name: i for i, name in enumerate(METHODS)}

# ---- The frame ---------------------------------------------------------------------


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each run: what it was, `score`, which selects, and its columns."""
    return pd.DataFrame([_row(record) for record in records])


def _row(record: Record) -> dict[str, Any]:
    setting = record["setting"]
    number = lambda key: float("nan" if setting[key] is None else setting[key])
    return {
        "stage": record["stage"],
        "method": record["method"],
        "label": record["label"],
        "rate": number("learning_rate"),
        "strength": number("strength"),
        "seed": record["seed"],
        "diverged": record["status"] == "diverged",
        "score": selection_score(record),
        "record": record,
        **measures(record["evaluation"], metric(record), record.get("id_val")),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One setting of a method: the rows of the frame with its seeds."""

    method: str
    label: str
    rate: float
    strength: float
    runs: pd.DataFrame

    @property
    def records(self) -> list[Record]:
        return list(self.runs["record"])

    @property
    def strength_words(self) -> str:
        """Such as `κ 0.5`, or nothing."""
        if math.isnan(self.strength):
            return ""
        name = self.records[0]["setting"]["strength_name"] or "strength"
        return f"{SYMBOLS.get(name, name)} {self.strength:g}"

    @property
    def setting(self) -> str:
        """Such as `1e-3, κ 0.5`."""
        rate = "" if math.isnan(self.rate) else rate_words(self.rate)
        return ", ".join(filter(None, (rate, self.strength_words)))

    def get(self, key: str | None) -> Interval | None:
        """Mean and interval of a column over the seeds that have it."""
        if key not in self.runs:
            return None
        values = self.runs[key].dropna()
        return interval(values.tolist()) if len(values) else None

    def mean(self, key: str | None) -> float:
        """The mean of a column, NaN without it."""
        found = self.get(key)
        return math.nan if found is None else found.mean


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that can be compared.

    Attributes:
      shared: what they share, in words.
      metric: the headline figure.
      trials: every setting of every method, methods in the order of the registry.
      chosen: the setting of each method that ID validation prefers.
      start: columns of the model before fine-tuning; empty where not measured.
    """

    shared: Comparison
    metric: Metric
    trials: Sequence[Trial]
    chosen: Mapping[str, Trial]
    start: Mapping[str, Interval]

    @property
    def title(self) -> str:
        return self.shared.title

    @property
    def runs(self) -> pd.DataFrame:
        return pd.concat([trial.runs for trial in self.trials], ignore_index=True)

    @property
    def columns(self) -> list[str]:
        """The columns that a chosen setting has, in the order of `measures`."""
        names = list(self.runs.columns)
        known = names[names.index("record") + 1 :]
        shown = [t.runs for t in self.chosen.values()]
        return [c for c in known if any(c in r and r[c].notna().any() for r in shown)]

    @property
    def headline(self) -> list[str]:
        return [key for key in GROUPS if key in self.columns]

    @property
    def shift(self) -> str | None:
        """The column that robustness is read off: OOD, else corruptions, if any."""
        return next((c for c in ("ood", "corruption") if c in self.columns), None)

    def column(self, key: str | None) -> Column:
        return column(str(key), self.metric)

    def of(self, method: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.method == method]


def groups(records: Iterable[Record]) -> list[Group]:
    """A group for each comparison, in order; a sweep's final runs before its tuning."""
    return [_group(shared, found) for shared, found in comparable(records)]


def _group(shared: Comparison, records: Sequence[Record]) -> Group:
    rows = frame(sorted(records, key=lambda record: record["seed"]))
    key = ["method", "rate", "strength"]
    trials = [
        Trial(*name[:1], found["label"].iloc[0], *name[1:], found)  # pyright: ignore
        for name, found in rows.groupby(key, dropna=False, sort=False)
    ]
    trials.sort(key=lambda t: (ORDER[t.method], *_low_first(t)))
    methods = dict.fromkeys(trial.method for trial in trials)
    chosen = {m: select([t for t in trials if t.method == m]) for m in methods}
    return Group(shared, metric(records[0]), trials, chosen, _start(chosen))


def _low_first(trial: Trial) -> list[float]:
    return [-math.inf if math.isnan(x) else x for x in (trial.rate, trial.strength)]


def select(trials: Sequence[Trial]) -> Trial:
    """The best mean ID validation over the seeds all share; the smallest of equals.

    A run that diverged, or lacks the number, is worse than any. Where no seed is
    shared, each setting's own seeds count.
    """
    shared = set.intersection(*(set(trial.runs["seed"]) for trial in trials))

    def score(trial: Trial) -> float:
        runs = trial.runs
        counted = runs[runs["seed"].isin([*shared])] if shared else runs
        return round(float(np.mean(counted["score"])), 9)

    return max(sorted(trials, key=_low_first), key=score)


def paired(one: Trial, other: Trial, key: str) -> Interval | None:
    """The difference in a column, over the seeds that both have."""
    if key not in one.runs or key not in other.runs:
        return None
    by_seed = [t.runs.set_index("seed")[key].dropna() for t in (one, other)]
    values = (by_seed[0] - by_seed[1]).dropna()
    return interval(values.tolist()) if len(values) else None


def _start(chosen: Mapping[str, Trial]) -> dict[str, Interval]:
    """What a group started from; one value where all seeds share it."""
    # Some methods prepare a start of their own: the plainest one speaks for the group.
    plainest = next(
        (m for m in (BASELINE, REFERENCE) if m in chosen), next(iter(chosen))
    )
    found = pd.DataFrame(map(_start_measures, chosen[plainest].records))
    unique = {key: found[key].dropna().tolist() for key in found}
    return {k: interval(v if len(set(v)) > 1 else v[:1]) for k, v in unique.items()}


def _start_measures(record: Record) -> dict[str, float]:
    start, curve = record.get("start_evaluation") or {}, record.get("wise_curve") or {}
    if not start and 0.0 in curve.get("alpha", ()):  # none of the fine-tuned weights
        i = curve["alpha"].index(0.0)
        values = {key: curve[key][i] for key in ("id_val", *GROUPS) if key in curve}
        return {k: v for k, v in values.items() if v is not None}
    evaluation = start.get("evaluation", start)
    tests = {k: v for k, v in evaluation.items() if "group" in v}
    return measures(tests, metric(record), start.get("id_val"))


# ---- The frontier ------------------------------------------------------------------


def frontier(group: Group) -> Any:
    """A data frame of every setting, and every mixture of a chosen one with the start.

    Returns:
      `name`, `method` and `alpha`, NaN of a setting; `id_val`, `id` and `shift`, means
      over seeds; `chosen`; `hull`, whether a setting is on the convex hull of all and
      none beats it in both; `above`, how far a point lies above the hull, more being
      better, NaN where its ID is better than on all of the hull.
    """
    rows, chosen = [], [*group.chosen.values()]
    sign = 1 if group.metric.higher_is_better else -1
    for trial in group.trials:
        name = ", ".join(filter(None, (trial.label, trial.setting)))
        values = {key: trial.mean(key) for key in ("id_val", "id")}
        values |= {"shift": trial.mean(group.shift), "chosen": trial in chosen}
        rows.append({"name": name, "method": trial.method, "alpha": math.nan} | values)
    for trial in chosen if group.shift else ():
        curve = mixtures(trial.records, group.shift)
        for row in () if curve is None else curve.to_dict("records"):
            name = f"{trial.label}, α {row['alpha']:g}"
            rows.append({"name": name, "method": trial.method, "chosen": False, **row})
    found: Any = (
        pd.DataFrame(rows).dropna(subset=["id", "shift"]).reset_index(drop=True)
    )
    at = sign * found[["id", "shift"]].to_numpy(float)
    top = _hull(at, found.index[found["alpha"].isna()].tolist())
    found["hull"] = found.index.isin(top)
    if top:
        height = np.interp(at[:, 0], *at[top].T)
        found["above"] = np.where(at[:, 0] > at[top[-1], 0], np.nan, at[:, 1] - height)
    return found


def _hull(at: np.ndarray, candidates: Sequence[int]) -> list[int]:
    """The upper right hull of points `(n, 2)`: from the highest to the rightmost."""
    found: list[int] = []
    for i in sorted(candidates, key=lambda i: tuple(at[i])):
        while found and not _turns_right(at[[*found[-2:], i]]):
            found.pop()
        found.append(i)
    return found


def _turns_right(points: np.ndarray) -> bool:
    """Whether the last point, further right, leaves the one before it on the hull."""
    (dx, dy), (ex, ey) = points[-2] - points[0], points[-1] - points[-2]
    return bool(ey < 0 and (len(points) < 3 or dx * ey < dy * ex))


def rate_words(value: float) -> str:
    """Writes a learning rate.

    >>> [rate_words(x) for x in (3e-4, 0.01, 2.5e-5, 1.0)]
    ['3e-4', '1e-2', '2.5e-5', '1e0']
    """
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
