r"""Runs every method at every setting and seed, then the chosen settings once more.

python -m experiments.sweep --config=experiments/configs/pacs.py:study \
  --config.run.io.weights=RESNET18.npz --out=runs/pacs

Each method gets the same number of settings, unless nothing comes after the choice; ID
validation alone chooses among them.
Runs go one after the other into folders of their own; each one that finishes adds a
line to `study.jsonl` and is skipped from then on; one that was interrupted goes on.
`python -m experiments.report` reads that file alone.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import evaluation, records, studies
from experiments.cli import Display, launch
from experiments.configs.base import Config, plain_dict
from experiments.configs.values import SettingError, each, one_of, whole
from experiments.files import RecordError, jsonable, locked
from experiments.methods import METHODS
from experiments.start import Shared
from experiments.tasks.task import selection_score
from experiments.train import run

JOB = "experiments.sweep"
Run = Callable[..., dict[str, Any]]  # (configuration, folder, ...) -> its record
Chosen = dict[str, dict[str, Any]]  # by method: its setting, ID validation and runs


class Setting(NamedTuple):
    """What a sweep chooses; `None` where the method has no such number."""

    learning_rate: float | None
    strength: float | None


class Planned(NamedTuple):
    """One run of a sweep."""

    stage: str
    method: str
    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """Such as `ftp-lr0.001-kappa1-seed0`."""
        rate, strength = self.setting
        name = self.method
        if rate is not None:
            name += f"-lr{rate:g}"
        if strength is not None:
            kind = METHODS[self.method].strength
            assert kind is not None
            name += f"-{kind.name.replace(' ', '_')}{strength:g}"
        return f"{name}-seed{self.seed}"


# ---- The plan ----------------------------------------------------------------------


def settings(config: Config) -> dict[str, list[Setting]]:
    """The settings of every method, as many for each if the chosen ones run again.

    Raises:
      SettingError: a method is unknown, or has more settings than another.
    """
    if "run" not in config:
        raise SettingError(
            "config: expected that of a study, got that of one run; give it to python"
            " -m experiments.train."
        )
    if not config.methods:
        raise SettingError("methods: expected at least one, got none.")
    if not config.tune_seeds:
        raise SettingError("tune_seeds: expected at least one, got none.")
    for name in ("tune_seeds", "final_seeds"):
        each(whole(0))(name, config[name])
    grid = {}
    for method in config.methods:
        one_of("methods", method, METHODS)
        one_of("settings", method, config.settings.to_dict())
        pairs = [_setting(method, pair) for pair in config.settings[method]]
        if len(set(pairs)) < len(pairs):
            raise SettingError(f"settings.{method}: a setting is given twice.")
        grid[method] = pairs
    counts = {method: len(pairs) for method, pairs in grid.items()}
    if config.final_seeds and len(set(counts.values())) > 1:
        raise SettingError(
            f"settings: expected as many for every method, got {counts}."
        )
    return grid


def _setting(method: str, pair: Any) -> Setting:
    number = int | float | None
    if not (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(x, number) for x in pair)
    ):
        raise SettingError(
            f"settings.{method}: expected pairs of a learning rate and a strength, each"
            f" a number or None, got {pair!r}."
        )
    return Setting(*pair)


def planned(
    stage: str, grid: Mapping[str, Iterable[Setting]], seeds: Iterable[int]
) -> list[Planned]:
    """The runs of a stage; those of one seed, which share a start, one by one."""
    return [
        Planned(stage, method, setting, seed)
        for seed in seeds
        for method, pairs in grid.items()
        for setting in pairs
    ]


def configured(config: Config, planned: Planned, out: pathlib.Path) -> Config:
    """The configuration of one run."""
    result: Config = ConfigDict(config.run.to_dict(), type_safe=False)
    result.update(config[planned.stage].to_dict())
    result.method.name, result.seed = planned.method, planned.seed
    rate, strength = planned.setting
    method = METHODS[planned.method]
    if rate is not None:
        result.method.learning_rate = rate
    result.method.strength = strength
    if result.io.weights is not None:  # each seed may have its own
        result.io.weights = result.io.weights.replace("{seed}", str(planned.seed))
    trained = planned._replace(
        method=records.TRAINS_FOR_OTHERS, setting=Setting(rate, None)
    )
    folder = out / trained.stage / trained.name
    if method.mixes and (folder / records.SELECTED).exists():
        result.io.trained_from = str(folder)
    if method.probes or method.mixes:  # a mixture of which would say nothing new
        result.evaluation.wise_alphas = ()
    return result


# ---- Selection ---------------------------------------------------------------------


def select(
    grid: Mapping[str, list[Setting]],
    scores: Mapping[tuple[str, Setting], list[float]],
) -> dict[str, Setting]:
    """The setting of each method with the best mean score.

    Of equals the smaller learning rate wins, then the smaller strength.

    Args:
      grid: the settings of each method.
      scores: `selection_score` of every seed, more being better.
    """

    def key(method: str, setting: Setting) -> tuple[float, ...]:
        mean = round(float(np.mean(scores[method, setting])), 9)
        return mean, *(-math.inf if x is None else -x for x in setting)

    return {
        method: max(pairs, key=lambda pair: key(method, pair))
        for method, pairs in grid.items()
    }


# ---- Running -----------------------------------------------------------------------


def sweep(
    config: Config,
    out: pathlib.Path,
    display: Display,
    shared: Shared | None = None,
    one: Run | None = None,
) -> Chosen:
    """Runs what is missing of both stages; returns what was chosen.

    `one` makes one run, by default as `experiments.train.run`.

    Raises:
      SettingError: a setting or a seed cannot be used.
      RecordError: the folder is of another study, or another process is at it.
    """
    grid = settings(config)
    with locked(out):
        one = functools.partial(one or run, display=display, shared=shared or Shared())
        return _sweep(config, grid, out, display, one)


def _sweep(
    config: Config,
    grid: dict[str, list[Setting]],
    out: pathlib.Path,
    display: Display,
    one: Run,
) -> Chosen:
    tuning = planned("tune", grid, config.tune_seeds)
    scores: dict[tuple[str, Setting], list[float]] = {}
    for plan, record in run_all(config, tuning, out, display, one).items():
        score = selection_score(record)
        scores.setdefault((plan.method, plan.setting), []).append(score)
    chosen = select(grid, scores)
    again = {method: [setting] for method, setting in chosen.items()}
    final = planned("final", again, config.final_seeds)
    run_all(config, final, out, display, one)
    return {
        method: {
            **setting._asdict(),
            "score": float(np.mean(scores[method, setting])),
            "runs": [plan.name for plan in final if plan.method == method],
        }
        for method, setting in chosen.items()
    }


def run_all(
    config: Config,
    plans: list[Planned],
    out: pathlib.Path,
    display: Display,
    one: Run,
) -> dict[Planned, dict[str, Any]]:
    """The record of every planned run, trained now or earlier.

    Raises:
      RecordError: the study in `out` has a run of another configuration.
    """
    file = out / studies.FILE
    known = studies.read(file) if file.exists() else []
    finished = {(record["stage"], record["run"]): record for record in known}
    done: dict[Planned, dict[str, Any]] = {}
    for plan in plans:
        if record := finished.get((plan.stage, plan.name)):
            check_same(record, configured(config, plan, out), file)
            done[plan] = record
    if len(done) == len(plans):
        return done
    with display.bar(len(plans), len(done), unit="runs") as advance:
        for plan in plans:
            if plan in done:
                continue
            advance(plan.name, 0)
            wanted, folder = configured(config, plan, out), out / plan.stage / plan.name
            record = one(wanted, folder)
            done[plan] = studies.append(file, record, plan.stage, plan.name)
            display.print(f"{plan.stage} {plan.name}: {in_words(record)}")
            advance(plan.name, 1)
    return {plan: done[plan] for plan in plans}


def in_words(record: Mapping[str, Any]) -> str:
    """The figures of a run, in one line."""
    summary = record["summary"]
    shift = evaluation.shift(summary)
    values = {"ID validation": record["id_val"], "ID": summary["id"]}
    values[{"ood": "OOD", "corruption": "corrupted"}[shift]] = summary[shift]
    return ", ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None)


def check_same(record: Mapping[str, Any], config: Config, file: pathlib.Path) -> None:
    """Raises a `RecordError` if the run in `file` had another configuration."""
    now = jsonable(plain_dict(config))
    if changed := records.differences(record["config"], now, records.FREE):
        raise RecordError(
            f"{file}: {record['stage']} {record['run']} is a run of another"
            f" configuration ({changed}). Use another --out."
        )


# ---- Command line ------------------------------------------------------------------


def show(
    config: Config, out: pathlib.Path, display: Display, one: Run | None = None
) -> None:
    """Sweeps, and prints what was chosen."""
    for method, chosen in sweep(config, out, display, one=one).items():
        display.print(f"{method:<14} {chosen['learning_rate']} {chosen['strength']}")
    display.print(f"Now: python -m experiments.report {out}")


if __name__ == "__main__":
    launch(JOB, show, str(__doc__))
