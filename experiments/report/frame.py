"""From records to a data frame, a row a run; the settings chosen; what is compared."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.files import RecordError
from experiments.methods import METHODS
from experiments.report.comparison import Comparison, comparable, is_probe
from experiments.report.measures import (
    Column,
    Frame,
    column,
    measures,
    sequence_measures,
)
from experiments.schema import GROUPS
from experiments.statistics import Interval, interval
from experiments.studies import Record
from experiments.tasks.task import Metric, metric, selection_score

REFERENCE = "ftp"  # the method that all others are set against
BASELINE = "fine-tune"
SYMBOLS = {"kappa": "κ", "alpha": "α", "lambda": "λ"}
SETTING = ["method", "rate", "strength"]
RUN = [*SETTING, "seed"]


def frame(records: Iterable[Record]) -> Frame:
    """A row for each run: what it was, `score`, which selects, and its columns."""
    return pd.DataFrame([_row(record) for record in records])


def _row(record: Record) -> dict[str, Any]:
    setting = record["setting"]
    number = lambda key: float("nan" if setting[key] is None else setting[key])
    return {
        "stage": record["stage"],
        "method": record["method"],
        "rate": number("learning_rate"),
        "strength": number("strength"),
        "seed": record["seed"],
        "diverged": record["status"] == "diverged",
        "score": selection_score(record),
        "record": record,
        **measures(record["evaluation"], metric(record), record["id_val"]),
        **sequence_measures(record.get("tasks"), metric(record)),
    }


# ---- Settings ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One setting of a method, and the rows of the frame with its seeds."""

    method: str
    rate: float
    strength: float
    runs: Frame

    @property
    def words(self) -> tuple[str, str, str]:
        """Method, rate and strength, such as `("FTP", "1e-3", "κ 0.5")`."""
        method = METHODS[self.method]
        name = method.strength.name if method.strength else "strength"
        rate = "" if math.isnan(self.rate) else rate_words(self.rate)
        strength = f"{SYMBOLS.get(name, name)} {self.strength:g}"
        return method.label, rate, "" if math.isnan(self.strength) else strength

    @property
    def label(self) -> str:
        return self.words[0]

    @property
    def setting(self) -> str:
        return ", ".join(filter(None, self.words[1:]))

    @property
    def name(self) -> str:
        return ", ".join(filter(None, self.words))

    @property
    def records(self) -> list[Record]:
        return list(self.runs["record"])

    @property
    def tasks(self) -> Frame:
        """Of sequences: a column a task, a row after each; mean over the seeds."""
        each = [pd.DataFrame(r["tasks"], dtype=float) for r in self.records]
        return sum(each[1:], each[0]) / len(each)

    def get(self, key: str | None) -> Interval | None:
        """Mean and interval of a column over the seeds that have it."""
        return _over(self.runs[key]) if key in self.runs else None

    def mean(self, key: str | None) -> float:
        """The mean of a column, NaN without it."""
        value = self.get(key)
        return math.nan if value is None else value.mean


def _over(values: Frame) -> Interval | None:
    known = values.dropna().tolist()
    return interval(known) if known else None


def select(trials: Sequence[Trial]) -> Trial:
    """The best mean ID validation over the seeds all share; the first of equals.

    A run that diverged, or lacks the number, is worse than any. Where no seed is
    shared, each setting's own seeds count.
    """
    shared = set.intersection(*(set(trial.runs["seed"]) for trial in trials))

    def score(trial: Trial) -> float:
        counted = trial.runs["seed"].isin([*shared]) | (not shared)
        return round(float(trial.runs["score"][counted].mean()), 9)

    return max(trials, key=score)


def paired(one: Trial, other: Trial, key: str) -> Interval | None:
    """The difference in a column, over the seeds that both have."""
    if key not in one.runs or key not in other.runs:
        return None
    by_seed = [trial.runs.set_index("seed")[key] for trial in (one, other)]
    return _over(by_seed[0] - by_seed[1])


def rate_words(value: float) -> str:
    """Writes a learning rate.

    >>> [rate_words(x) for x in (3e-4, 0.01, 2.5e-5, 1.0)]
    ['3e-4', '1e-2', '2.5e-5', '1e0']
    """
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


# ---- Comparisons -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that can be compared.

    Attributes:
      shared: what they share, in words.
      metric: the headline figure.
      runs: the rows of the frame.
      trials: every setting of every method, methods in the order of the registry.
      chosen: the setting of each method that ID validation prefers.
      columns: those that a chosen setting has, in the order of `measures`.
      start: columns of the model before fine-tuning; empty where not measured.
    """

    shared: Comparison
    metric: Metric
    runs: Frame
    trials: Sequence[Trial]
    chosen: Mapping[str, Trial]
    columns: Sequence[str]
    start: Mapping[str, Interval]

    @property
    def title(self) -> str:
        return self.shared.title

    @property
    def headline(self) -> list[str]:
        return [key for key in GROUPS if key in self.columns]

    @property
    def shift(self) -> str | None:
        """The column that robustness is read off: OOD, else corruptions, if any."""
        return next((key for key in self.headline if key != "id"), None)

    @property
    def is_sequence(self) -> bool:
        """Whether the runs are sequences of tasks."""
        return "forgetting" in self.columns

    def column(self, key: str | None) -> Column:
        name = "average" if self.is_sequence and key == "id" else str(key)
        return column(name, self.metric)

    def of(self, method: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.method == method]

    def by_method(self, key: str | None) -> dict[str, Interval | None]:
        """A column at the chosen settings."""
        return {method: trial.get(key) for method, trial in self.chosen.items()}


def groups(records: Iterable[Record]) -> list[Group]:
    """A group for each comparison, in order; a sweep's final runs before its tuning.

    Raises:
      RecordError: a run is there twice, with other figures.
    """
    return [_group(shared, members) for shared, members in comparable(records)]


def _group(shared: Comparison, records: Sequence[Record]) -> Group:
    runs = frame(records)
    runs["method"] = pd.Categorical(runs["method"], [*METHODS])  # which has an order
    runs = runs.sort_values(RUN, na_position="first", kind="stable")
    twins = runs[runs.duplicated(RUN, keep=False)]
    for _, same in twins.groupby(RUN, dropna=False, observed=True)["record"]:
        first, *others = same
        for other in others:
            if not is_probe(first) and figures(first) != figures(other):
                raise RecordError(
                    f"{first['place']} and {other['place']} are the same method,"
                    " setting and seed, with other figures. Name only one of them."
                )
    runs = runs.drop_duplicates(RUN)  # a run that two studies share
    rows = runs.groupby(SETTING, dropna=False, sort=False, observed=True)
    trials = [Trial(*key, seeds) for key, seeds in rows]  # pyright: ignore
    methods = dict.fromkeys(trial.method for trial in trials)
    chosen = {m: select([t for t in trials if t.method == m]) for m in methods}
    known = pd.concat([t.runs for t in chosen.values()]).dropna(axis=1, how="all")
    columns = [*known.loc[:, "record":]][1:]
    start = _start(chosen)
    return Group(shared, metric(records[0]), runs, trials, chosen, columns, start)


def figures(record: Record) -> tuple[Any, ...]:
    """What a run came to."""
    return record["id_val"], record["evaluation"]


def _start(chosen: Mapping[str, Trial]) -> dict[str, Interval]:
    """What a group started from; one value where all seeds share it."""
    # Some methods prepare a start of their own: the plainest one speaks for the group.
    plainest = next(m for m in (BASELINE, REFERENCE, *chosen) if m in chosen)
    rows = pd.DataFrame(map(_start_measures, chosen[plainest].records))
    unique = {key: rows[key].dropna().tolist() for key in rows}
    return {k: interval(v if len(set(v)) > 1 else v[:1]) for k, v in unique.items()}


def _start_measures(record: Record) -> dict[str, float]:
    if start := record.get("start_evaluation"):
        return measures(start["evaluation"], metric(record), start.get("id_val"))
    curve: Frame = pd.DataFrame(record.get("wise_curve") or {"alpha": []}, dtype=float)
    begin = curve[curve.pop("alpha") == 0]  # none of the fine-tuned weights
    return {key: begin[key].iloc[0] for key in begin.dropna(axis=1) if len(begin)}
