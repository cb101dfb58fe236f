"""From runs to the chosen settings, their means and intervals, and the differences."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from experiments.report.comparison import Comparison
from experiments.report.file_names import distinct, slug
from experiments.report.gather import Run, Setting, sweep_choices
from experiments.report.grouping import comparable
from experiments.report.measures import run_measures, start_measures
from experiments.statistics import Interval, interval

REFERENCE = "ftp"  # the method that all others are set against
BASELINE = "fine-tune"
# Methods appear in this order, others after them.
ORDER = (
    BASELINE,
    "linear-probe",
    "partial",
    "lp-ft",
    "l2-sp",
    "mars-sp",
    "mars-pgm",
    "wise-ft",
    "tpgm",
    "spd",
    REFERENCE,
)
COMPARED = ("id", "ood", "corruption")  # columns of the differences

Values = dict[str, dict[int, float]]  # column -> seed -> share in [0, 1]
Columns = dict[str, Interval]


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One setting of a method, run with one seed or more.

    Attributes:
      runs: by seed.
      values: `{column: {seed: share}}`; what a run lacks is left out.
      columns: their means and intervals.
    """

    setting: Setting
    runs: Mapping[int, Run]
    values: Values
    columns: Columns

    @property
    def diverged(self) -> int:
        """How many of the runs did not stay finite."""
        return sum(run.diverged for run in self.runs.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """All settings of one method, and which of them counts.

    Attributes:
      trials: by rising learning rate, then strength.
      reason: how the choice was made, in words.
    """

    key: str
    label: str
    trials: Sequence[Trial]
    chosen: Trial
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
    """A method minus another, at their chosen settings, paired by seed."""

    method: str
    other: str
    seeds: Sequence[int]
    columns: Columns


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that can be compared.

    Attributes:
      shared: what they share.
      slug: the title as part of a file name, unlike that of any other group.
      metric: key of the headline metric.
      methods: by key.
      start: columns of the model before fine-tuning; empty where not measured.
      differences: `REFERENCE` against every other method.
    """

    shared: Comparison
    slug: str
    metric: str
    methods: Mapping[str, Method]
    start: Columns
    differences: Sequence[Difference]

    @property
    def title(self) -> str:
        return self.shared.title

    @property
    def runs(self) -> list[Run]:
        return [
            run
            for method in self.methods.values()
            for trial in method.trials
            for run in trial.runs.values()
        ]

    @property
    def columns(self) -> list[str]:
        """The columns that at least one chosen setting has, in order."""
        found = [m.chosen.columns for m in self.methods.values()]
        return list(dict.fromkeys(key for columns in found for key in columns))

    @property
    def shift(self) -> str | None:
        """The column that robustness is read off: OOD, else corruptions, if any."""
        return next((c for c in ("ood", "corruption") if c in self.columns), None)


def summarise(runs: Iterable[Run]) -> list[Group]:
    """Groups what can be compared, chooses each method's setting, and compares.

    Args:
      runs: of any number of data sets, models and starts.

    Returns:
      A group for each comparison, in order; a sweep's final runs before its tuning.
    """
    found = comparable(runs)
    slugs = distinct(slug(shared.title) for shared, _ in found)
    return [_group(*pair, name) for pair, name in zip(found, slugs, strict=True)]


def _group(shared: Comparison, runs: Sequence[Run], file_name: str) -> Group:
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    methods = {name: _method(name, by_method[name]) for name in in_order(by_method)}
    return Group(
        shared=shared,
        slug=file_name,
        metric=runs[0].record["metric"],
        methods=methods,
        start=_start(methods),
        differences=[
            paired(methods[REFERENCE], other)
            for name, other in methods.items()
            if REFERENCE in methods and name != REFERENCE
        ],
    )


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of `ORDER`, others after them by name."""
    known = {name: i for i, name in enumerate(ORDER)}
    return sorted(methods, key=lambda name: (known.get(name, len(known)), name))


def _method(key: str, runs: Sequence[Run]) -> Method:
    by_setting: dict[Setting, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(run.setting, []).append(run)
    settings = sorted(by_setting, key=lambda setting: setting.order)
    trials = [_trial(setting, by_setting[setting]) for setting in settings]
    chosen = chosen_by_sweep(trials)
    reason = "the only setting that ran"
    if chosen is not None:
        reason = "chosen by its sweep, on ID validation"
    elif len(trials) > 1:
        reason = "chosen here, on mean ID validation"
    return Method(
        key, runs[0].record["label"], trials, chosen or select(trials), reason
    )


def _trial(setting: Setting, runs: Sequence[Run]) -> Trial:
    by_seed = {run.seed: run for run in sorted(runs, key=lambda run: run.seed)}
    values: Values = {}
    for seed, run in by_seed.items():
        for column, value in run_measures(run).items():
            values.setdefault(column, {})[seed] = value
    columns = {column: interval(list(v.values())) for column, v in values.items()}
    return Trial(setting, by_seed, values, columns)


def select(trials: Sequence[Trial]) -> Trial:
    """The best mean ID validation over the seeds all share; the smallest of equals.

    A run that diverged counts as 0, as it does in a sweep, whatever it knew before. A
    setting that lacks the number for one of these seeds cannot win over one that has
    it. Where no seed is shared, each setting's own seeds count.
    """
    shared = set.intersection(*(set(trial.runs) for trial in trials))

    def score(trial: Trial) -> float:
        found = trial.values.get("id_val", {})
        values = [
            0.0 if trial.runs[seed].diverged else found.get(seed, -math.inf)
            for seed in shared or trial.runs
        ]
        return round(statistics.fmean(values), 9)

    return max(sorted(trials, key=lambda trial: trial.setting.order), key=score)


def chosen_by_sweep(trials: Sequence[Trial]) -> Trial | None:
    """The setting that the runs' own sweep selected, if there is exactly one."""
    found = []
    for trial in trials:
        for run in trial.runs.values():
            choice = sweep_choices(run).get(run.method)
            if choice is None:
                continue
            if all(
                choice.get(key) == getattr(run.setting, key)
                for key in ("learning_rate", "strength")
            ):
                found.append(trial)
    return found[0] if found and all(trial is found[0] for trial in found) else None


def paired(method: Method, other: Method) -> Difference:
    """The difference at the chosen settings, over the seeds that both have."""
    a, b = method.chosen, other.chosen
    seeds = sorted(set(a.runs) & set(b.runs))
    columns = {}
    for column in COMPARED:
        x, y = a.values.get(column, {}), b.values.get(column, {})
        if seeds and all(seed in x and seed in y for seed in seeds):
            columns[column] = interval([x[seed] - y[seed] for seed in seeds])
    return Difference(method.key, other.key, seeds, columns)


def _start(methods: Mapping[str, Method]) -> Columns:
    """What the group started from; one value where all seeds share it."""
    # Some methods prepare a start of their own: the plainest one speaks for the group.
    first = next((methods[m] for m in (BASELINE, REFERENCE) if m in methods), None)
    method = first or next(iter(methods.values()))
    values: dict[str, list[float]] = {}
    for run in method.chosen.runs.values():
        for column, value in start_measures(run).items():
            values.setdefault(column, []).append(value)
    return {
        column: interval(v if len(set(v)) > 1 else v[:1])
        for column, v in values.items()
    }
