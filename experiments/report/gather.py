"""Which runs are there, and can their records be used?"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from experiments import json_files
from experiments.configs.base import grouped
from experiments.report.comparison import Comparison, Options, comparison, options

JOB = "experiments.train"
SWEEP_JOB = "experiments.sweep"
METRICS = "metrics.json"
SWEEP = "sweep.json"
UNFINISHED = ("config.json", "checkpoints")  # what a run leaves before its metrics
STAGES = ("tune", "final")  # folders of a sweep
DONE = ("finished", "diverged")
GROUPS = ("id", "ood", "corruption")
_NUMBER = (int, float)

# What a record must hold, as path -> types; the rest is optional.
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "method": (str,),
    "label": (str,),
    "seed": (int,),
    "model": (str,),
    "start": (str,),
    "image_size": (int, list),
    "metric": (str,),
    "setting": (dict,),
    "setting.learning_rate": (*_NUMBER, type(None)),
    "setting.strength": (*_NUMBER, type(None)),
    "setting.strength_name": (str, type(None)),
    "evaluation": (dict,),
    "summary": (dict,),
    "layers": (list,),
    "leaves": (dict,),
}
_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


class ReportError(ValueError):
    """A path or a record that no report can be made of; names the file."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a method is tuned by: its learning rate and its own strength, if any."""

    learning_rate: float | None
    strength: float | None = None
    strength_name: str | None = None

    @property
    def order(self) -> tuple[float, float]:
        """Sorts by rate, then by strength; the smallest of equals is chosen."""
        rate, strength = (
            -math.inf if value is None else value
            for value in (self.learning_rate, self.strength)
        )
        return rate, strength


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One fine-tuning run that has ended, and the record it left.

    Attributes:
      path: its directory, whose last part is its name.
      record: the content of `metrics.json`.
    """

    path: pathlib.Path
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def method(self) -> str:
        return self.record["method"]

    @property
    def seed(self) -> int:
        return self.record["seed"]

    @property
    def diverged(self) -> bool:
        return self.record["status"] == "diverged"

    @property
    def setting(self) -> Setting:
        found = self.record["setting"]
        rate, strength = (
            None if found[key] is None else float(found[key])
            for key in ("learning_rate", "strength")
        )
        return Setting(rate, strength, found["strength_name"])

    @property
    def stage(self) -> str:
        """Of a sweep: "tune" or "final"; nothing for a run of its own."""
        stage = self.path.resolve().parent.name
        return stage if stage in STAGES else ""

    @property
    def comparison(self) -> Comparison:
        """What it has to share with the runs that it is compared with, in a title."""
        return comparison(self.record, self.stage)

    @property
    def options(self) -> Options:
        """All else that it has to share with them."""
        return options(self.record.get("config") or {})

    @property
    def probed(self) -> bool:
        """Whether it fitted a head to the features of the start, without any steps."""
        return self.setting.learning_rate is None

    @property
    def trained(self) -> bool:
        """Whether it took steps, rather than a probe or the weights of another run."""
        config = grouped(self.record.get("config") or {})
        loaded = (config.get("io") or {}).get("trained_from")
        return not self.probed and not loaded

    @property
    def twin(self) -> tuple[str, Setting, int]:
        """What only one run of a comparison has."""
        return self.method, self.setting, self.seed


def gather(paths: Iterable[pathlib.Path]) -> tuple[list[Run], list[str]]:
    """Reads all runs in and below the given directories.

    Args:
      paths: run directories, or directories that contain some at any depth.

    Returns:
      The runs that have ended, in the order of their paths, and a note for each one
      that was left out.

    Raises:
      ReportError: a path is missing or holds no run, a `metrics.json` is damaged or
        was made by something else, or a run is there twice.
    """
    runs: dict[pathlib.Path, Run] = {}
    notes: list[str] = []
    for path in paths:
        found = list(_run_directories(path))
        if not found:
            raise ReportError(
                f"{path}: no {METRICS} in it or below. Name the directory of a run, or"
                " one that contains runs."
            )
        for directory in found:
            if directory.resolve() in runs:
                continue
            if not (directory / METRICS).is_file():
                notes.append(f"{directory}: no {METRICS} yet, left out.")
                continue
            record = _read(directory / METRICS)
            if record.get("status") in DONE:
                _check(directory / METRICS, record)
                runs[directory.resolve()] = Run(directory, record)
            else:
                status = record.get("status", "unknown")
                notes.append(f"{directory}: not finished ({status}), left out.")
    _refuse_twins(runs.values())
    return list(runs.values()), list(dict.fromkeys(notes))


def sweep_choices(run: Run) -> Mapping[str, Any]:
    """What the sweep that `run` belongs to has selected, by method; often nothing.

    Raises:
      ReportError: there is a `sweep.json` above the run that no sweep wrote.
    """
    parents = run.path.resolve().parents[: 2 if run.stage else 1]
    file = next((p / SWEEP for p in parents if (p / SWEEP).is_file()), None)
    if file is None:
        return {}
    found = json_files.read(file, ReportError)
    selected = found.get("selected")
    if found.get("job") != SWEEP_JOB or not isinstance(selected, dict):
        raise ReportError(f"{file} was not made by {SWEEP_JOB}. Move it away.")
    return selected


def _run_directories(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Directories of runs, whether these have left their metrics yet or not."""
    if not path.is_dir():
        kind = "is not a directory" if path.exists() else "does not exist"
        raise ReportError(f"{path} {kind}. Name the directories of runs.")
    for folder, below, files in os.walk(path):
        begun = any(name in (*below, *files) for name in UNFINISHED)
        if METRICS in files:
            below.clear()  # a run holds no other runs
        below[:] = sorted(x for x in below if x not in UNFINISHED and x[0] != ".")
        if METRICS in files or begun:
            yield pathlib.Path(folder)


def _read(file: pathlib.Path) -> dict[str, Any]:
    record = json_files.read(file, ReportError)
    if record.get("job") != JOB:
        maker = record.get("job", "something unnamed")
        raise ReportError(
            f"{file} is not a run of {JOB}: it was made by {maker}. Name only"
            " directories of such runs."
        )
    return record


def _check(file: pathlib.Path, record: Mapping[str, Any]) -> None:
    for path, types in _FIELDS.items():
        value: Any = record
        for key in path.split("."):
            if key not in value:
                raise ReportError(f"{file}: `{path}` is missing. Run it again.")
            value = value[key]
        if not isinstance(value, types) or isinstance(value, bool):
            words = " or ".join(_WORDS.get(t, "a number") for t in types[:1])
            raise ReportError(f"{file}: `{path}`: expected {words}, got {value!r}.")
    for domain, entry in record["evaluation"].items():
        group = entry.get("group") if isinstance(entry, dict) else None
        if group not in GROUPS:
            raise ReportError(
                f"{file}: `evaluation`, {domain!r}: expected a group of"
                f" {', '.join(GROUPS)}, got {group!r}."
            )


def _refuse_twins(runs: Iterable[Run]) -> None:
    seen: dict[Any, Run] = {}
    for run in runs:
        key = (run.comparison, run.options, run.twin)
        if key in seen:
            raise ReportError(
                f"{seen[key].path} and {run.path} are the same method, setting and"
                " seed. Name only one of them."
            )
        seen[key] = run
