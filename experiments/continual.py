r"""Fine-tunes a model on one task after the other, and tests it on each after each.

python -m experiments.continual --config=experiments/configs/continual.py:pacs \
  --config.run.io.source_dir=PACS --config.run.io.weights=VIT_TINY.npz --out=runs/pacs

A task is a part of the classes of a data set, which the head grows by, or one of its
domains. Every task begins with what the one before it left; a method takes that for its
new anchor, or keeps the first (`sequence.new_anchor`). Each task is a run of
`experiments.train` in a folder of its own, so that the same command goes on after a
kill; methods are tuned and chosen as in `experiments.sweep`, by what the last model can
do on the validation sets of all tasks. `python -m experiments.report` shows accuracy by
task, forgetting and backward transfer.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import evaluation, records, sweep, train
from experiments.configs.base import Config, check
from experiments.configs.values import SettingError, whole
from experiments.files import locked, read, write
from experiments.methods import METHODS
from experiments.models import MODELS
from experiments.progress import Display
from experiments.start import Shared
from experiments.tasks.task import metric

JOB = "experiments.continual"
DOMAIN = "{domain}"  # in specs of data
VALIDATION = "validation of "  # before the name of a task, in the last evaluation
NEVER = 10**9  # validation between steps: the last parameters go on


class Task(NamedTuple):
    """One task of a sequence.

    Attributes:
      name: as tables say it.
      train, validation, test: specs of its data.
      classes: of all tasks so far, in the order of the labels; () if they are the same
        in all tasks.
    """

    name: str
    train: str
    validation: str
    test: str
    classes: tuple[str, ...] = ()


def run(
    config: Config, out: pathlib.Path, display: Display, shared: Shared | None = None
) -> dict[str, Any]:
    """Trains on every task in turn, or goes on, or returns a finished record.

    Args:
      config: of one run, and in it `sequence`; see `experiments.configs.studies`.
      out: the folder of the sequence; every task has one in it.
      display: shows the progress.
      shared: what this sequence has in common with others.

    Returns:
      The record of the last task, but: `evaluation` is of every task, all in the group
      "id"; `id_val` is the mean over their validation sets; `tasks` is the figure of
      each test set after each task, `None` where a task's classes were yet to come.

    Raises:
      ValueError, RecordError, Interrupted: as `experiments.train.run`.
    """
    shared = shared or Shared(display.stage)
    check_sequence(config)
    with locked(out):
        if done := records.open_run(out, config.to_dict()):
            return done  # and needs no data any more
        every = tasks(config, shared)
        runs = [of_task(config, every, i, out) for i in range(len(every))]
        for each in runs:
            check(each, METHODS, MODELS)
        with display.bar(len(runs), unit="tasks") as advance:
            ended = []
            for task, each in zip(every, runs, strict=True):
                advance(task.name, 0)
                ended.append(train.run(each, _folder(out, len(ended)), display, shared))
                advance(task.name, 1)
        write(out / records.METRICS, joined(config, every, ended))
        return read(out / records.METRICS)


def check_sequence(config: Config) -> None:
    """Raises a `SettingError` unless the tasks of a sequence can be told."""
    sequence = config.get("sequence")
    if sequence is None:
        raise SettingError(
            "sequence: the configuration has none; see experiments.configs.studies."
        )
    whole(0)("sequence.classes_per_task", sequence.classes_per_task)
    if bool(sequence.classes_per_task) == bool(sequence.domains):
        raise SettingError(
            "sequence: expected either classes_per_task above 0 or domains, got"
            f" {sequence.classes_per_task} and {tuple(sequence.domains)}."
        )
    method = METHODS.get(config.method.name)
    if method and (method.probes or method.probe_first):
        raise SettingError(
            f"method.name: {config.method.name} fits a head to one task; expected"
            " another in a sequence."
        )
    for option in ("corruptions", "wise_alphas"):
        if value := config.evaluation[option]:
            raise SettingError(
                f"evaluation.{option}: the record of a sequence has none; expected (),"
                f" got {value}."
            )


def tasks(config: Config, shared: Shared) -> list[Task]:
    """The tasks in the order in which they come.

    Classes are drawn with the run's seed, so that every seed has another order.
    """
    sequence, data = config.sequence, config.data
    test = config.evaluation.tests[config.evaluation.id]

    def task(name: str, classes: tuple[str, ...], of: Callable[[str], str]) -> Task:
        return Task(name, of(data.train), of(data.validation), of(test), classes)

    if sequence.domains:
        return [
            task(domain, (), lambda spec, domain=domain: spec.replace(DOMAIN, domain))
            for domain in sequence.domains
        ]
    train = shared.source(data.train, config)
    # Some sets, as ImageNet-R, share the labels of a larger one.
    occur = zip(train.class_names, train.occurring, strict=True)
    names = [name for name, occurs in occur if occurs]
    order = np.random.default_rng(config.seed).permutation(len(names))
    classes = tuple(names[i] for i in order)
    firsts = range(0, len(classes), sequence.classes_per_task)
    ends = [*firsts[1:], len(classes)]
    if len(ends) < 2:
        raise SettingError(
            f"sequence.classes_per_task: expected fewer than the {len(names)} classes"
            f" of {data.train}, got {sequence.classes_per_task}."
        )
    return [
        task(f"task {number}", classes[:end], f"{{}}#{first}:{end}".format)
        for number, (first, end) in enumerate(zip(firsts, ends, strict=True), 1)
    ]


def _folder(out: pathlib.Path, number: int) -> pathlib.Path:
    return out / f"task-{number + 1}"


def of_task(
    config: Config, every: list[Task], number: int, out: pathlib.Path
) -> Config:
    """The configuration of one task's run."""
    task, sequence = every[number], config.sequence
    result: Config = ConfigDict(config.to_dict(), type_safe=False)
    del result.sequence
    result.name = f"{config.name} {task.name}"
    result.data.train, result.data.validation = task.train, task.validation
    result.data.classes = task.classes
    result.recipe.mask_classes = bool(task.classes)
    # A task whose classes are yet to come cannot be answered.
    known = every[: number + 1] if task.classes else every
    tests = {other.name: other.test for other in known}
    if number == len(every) - 1:
        tests |= {VALIDATION + other.name: other.validation for other in every}
    result.evaluation.tests, result.evaluation.id = ConfigDict(tests), task.name
    result.evaluation.validate_every = NEVER
    result.evaluation.before = False  # the task before has these figures
    result.io.keep_anchor = not sequence.new_anchor
    if number:
        before = str(_folder(out, number - 1))
        result.io.weights, result.model.start = before, "loaded head"
        if not sequence.new_anchor:
            result.method.anchor_from = before
    if not sequence.new_anchor:
        # A head that was new, or grows, has no place in the first anchor.
        outside = number if config.model.start == "new head" else task.classes
        result.method.free_head |= bool(outside)
    return result


def joined(
    config: Config, every: list[Task], ended: list[dict[str, Any]]
) -> dict[str, Any]:
    """The record of a sequence, from those of its tasks."""
    last = ended[-1]
    of = metric(last)
    by_task = {
        task.name: [e["evaluation"].get(task.name, {}).get(of.name) for e in ended]
        for task in every
    }
    figures = {t.name: last["evaluation"][t.name] | {"group": "id"} for t in every}
    validated = [last["evaluation"][VALIDATION + t.name][of.name] for t in every]
    own = ("history", "trace", "selected", "start_evaluation", "wise_curve")
    record = {key: value for key, value in last.items() if key not in own}
    diverged = any(each["status"] == "diverged" for each in ended)
    return record | {
        "name": config.name,
        "start": ended[0]["start"],
        "status": "diverged" if diverged else "finished",
        "id_val": float(np.mean(validated)),
        "evaluation": figures,
        "summary": evaluation.summarise(figures, of),
        "tasks": by_task,
        "steps": sum(each["steps"] for each in ended),
        "seconds": sum(each["seconds"] for each in ended),
        "config": config.to_dict(),
    }


def show(config: Config, out: pathlib.Path, display: Display) -> None:
    """Runs all methods, settings and seeds, and prints what was chosen."""
    sweep.show(config, out, display, run)


if __name__ == "__main__":
    sweep.launch_study(JOB, show, str(__doc__))
