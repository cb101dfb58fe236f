r"""Runs every method at every setting and seed, then the chosen settings once more.

python -m experiments.sweep --config=experiments/configs/pacs.py:study \
  --config.run.io.weights=RESNET18.npz --out=runs/pacs

Each method gets the same number of settings, unless nothing comes after the choice; ID
validation alone chooses among them.
Runs go one after the other into folders of their own; each one that finishes adds a
line to `study.jsonl` and is skipped from then on; one that was interrupted goes on. A
run of the chosen settings that would repeat one of the tuning is that one.
`python -m experiments.report` reads that file alone.

A part of a study, which the same folder may hold more of later:

python -m experiments.sweep --config=experiments/configs/pacs.py:study \
  --config.run.io.weights=RESNET18.npz --out=runs/pacs --methods=fine-tune,ftp \
  --budget=2 --settings=ftp=1e-3:0,3e-3:0
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import flags

from experiments import evaluation, records, studies
from experiments.cli import Job, launch
from experiments.configs.base import Config
from experiments.files import RecordError, jsonable, locked
from experiments.plan import (
    Planned,
    Setting,
    configured,
    folder,
    narrowed,
    planned,
    settings,
)
from experiments.progress import Display
from experiments.start import Shared
from experiments.tasks.task import selection_score
from experiments.train import run

JOB = "experiments.sweep"
Run = Callable[..., dict[str, Any]]  # (configuration, folder, ...) -> its record


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
) -> dict[str, Setting]:
    """Runs what is missing of both stages; returns what was chosen, by method.

    `one` makes one run, by default as `experiments.train.run`.

    Raises:
      SettingError: a setting or a seed cannot be used.
      RecordError: the folder is of another study, or another process is at it.
    """
    grid = settings(config)
    shared = shared or Shared(display.stage)
    one = functools.partial(one or run, display=display, shared=shared)
    scores: dict[tuple[str, Setting], list[float]] = {}
    with locked(out):
        tuning = planned("tune", grid, config.tune_seeds)
        for plan, record in run_all(config, tuning, out, display, one).items():
            score = selection_score(record)
            scores.setdefault((plan.method, plan.setting), []).append(score)
        chosen = select(grid, scores)
        again = {method: [setting] for method, setting in chosen.items()}
        final = planned("final", again, config.final_seeds)
        run_all(config, final, out, display, one)
    return chosen


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
            record = one(configured(config, plan, out), folder(config, plan, out))
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
    now = jsonable(config.to_dict())
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
        display.print(f"{method:<14} {chosen.learning_rate} {chosen.strength}")
    display.print(f"Now: python -m experiments.report {out}")


def part_options(values: flags.FlagValues = flags.FLAGS) -> list[flags.FlagHolder]:
    """Defines the options that name a part of a study, as `narrowed` takes them."""
    methods = "Only these methods: --methods=ftp,l2-sp."
    budget = (
        "So many settings of each method, evenly chosen from its list, the first and"
        " the last among them."
    )
    given = (
        "Settings of one method in place of its list, as RATE:STRENGTH with - for none:"
        " --settings=ftp=1e-3:1,3e-3:1. Once for each method."
    )
    return [
        flags.DEFINE_list("methods", None, methods, flag_values=values),
        flags.DEFINE_integer("budget", None, budget, flag_values=values),
        flags.DEFINE_multi_string("settings", [], given, flag_values=values),
    ]


def launch_study(name: str, job: Job, description: str) -> None:
    """As `launch`, of a study or of a part of it."""
    options = part_options()

    def part(config: Config, out: pathlib.Path, display: Display) -> None:
        job(narrowed(config, *(option.value for option in options)), out, display)

    launch(name, part, description, options)


if __name__ == "__main__":
    launch_study(JOB, show, str(__doc__))
