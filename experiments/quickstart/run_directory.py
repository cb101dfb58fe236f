"""What a run leaves on disk: one JSON of results, checkpoints, and how both resume."""

import json
import pathlib
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.records import RecordError, jsonable, write

METRICS = "metrics.json"
CHECKPOINTS = "checkpoints"

# Only directories of this form are ever deleted below CHECKPOINTS.
_RUN_NAME = re.compile(r"[a-z-]+(-lr[0-9.e+-]+)?-seed[0-9]+")


def run_name(kind: str, seed: int, learning_rate: float | None = None) -> str:
    """Name of one training run, such as `ftp-lr0.001-seed0`."""
    rate = "" if learning_rate is None else f"-lr{learning_rate:g}"
    return f"{kind}{rate}-seed{seed}"


class RunDirectory:
    """Results and checkpoints of one job, safe to interrupt at any moment.

    Attributes:
      path: the directory.
      metrics: the content of `metrics.json`; `runs` holds a record per finished run.
    """

    def __init__(
        self,
        path: pathlib.Path,
        job: str,
        settings: Mapping[str, Any],
        versions: Mapping[str, str],
    ):
        """Opens a directory, new or left by an earlier start with the same settings.

        Args:
          path: created if it is missing.
          job: who made it; a directory of another job is refused.
          settings: all that the numbers depend on; other settings are refused.
          versions: of the packages; noted, not compared.

        Raises:
          RecordError: the directory is of another job or of other settings.
        """
        self.path = path
        settings = jsonable(settings)
        found = _read(path, job)
        if found is None:
            path.mkdir(parents=True, exist_ok=True)
            self.metrics = {"job": job, "settings": settings, "runs": {}}
        else:
            if differences := _differences(found["settings"], settings):
                raise RecordError(
                    f"{path} was made with other settings ({differences}). Use another"
                    " --out, or --fresh to start over in this one."
                )
            self.metrics = found
        self.metrics["versions"] = dict(versions)
        self.write()

    @property
    def runs(self) -> dict[str, Any]:
        return self.metrics["runs"]

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Notes a finished run; its checkpoint is no longer needed to continue."""
        self.runs[name] = jsonable(record)
        self.write()

    def write(self) -> None:
        """Writes `metrics.json` at once or not at all."""
        write(self.path / METRICS, self.metrics)

    def _manager(self, name: str) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            (self.path / CHECKPOINTS / name).absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1, enable_async_checkpointing=False
            ),
        )

    def save(self, name: str, step: int, state: Any) -> None:
        """Saves the state of run `name` after `step` steps, in place of older ones."""
        with self._manager(name) as manager:
            manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, name: str, like: Any) -> tuple[int, Any] | None:
        """Step and state, as numpy arrays, of the last save of run `name`, if any.

        Args:
          name: of the run.
          like: a state of the same structure, shapes and dtypes.
        """
        if not (self.path / CHECKPOINTS / name).is_dir():
            return None
        with self._manager(name) as manager:
            step = manager.latest_step()
            if step is None:
                return None
            state = manager.restore(step, args=ocp.args.StandardRestore(like))
            return step, jax.tree.map(np.array, state)

    def discard(self, name: str) -> None:
        """Removes the checkpoints of run `name`."""
        shutil.rmtree(self.path / CHECKPOINTS / name, ignore_errors=True)


def clear(path: pathlib.Path, job: str, plots: Iterable[str]) -> None:
    """Removes what an earlier start of the job left in `path`, and nothing else.

    Raises:
      RecordError: the directory is of another job.
    """
    if _read(path, job) is None:
        return
    checkpoints = path / CHECKPOINTS
    if checkpoints.is_dir():
        for child in checkpoints.iterdir():
            if child.is_dir() and _RUN_NAME.fullmatch(child.name):
                shutil.rmtree(child)
        if not any(checkpoints.iterdir()):
            checkpoints.rmdir()
    for name in (*plots, METRICS):
        (path / name).unlink(missing_ok=True)


class SaveTimer:
    """Says when to save: at most once per `seconds`."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True


def _read(path: pathlib.Path, job: str) -> dict[str, Any] | None:
    """The metrics in `path`, or None if the job may use it as a new directory."""
    file = path / METRICS
    if not file.exists():
        if path.exists() and not path.is_dir():
            raise RecordError(f"{path} is not a directory. Use another --out.")
        if (path / CHECKPOINTS).exists():
            raise RecordError(
                f"{path} holds {CHECKPOINTS}/ but no {METRICS}: something else made it."
                " Use another --out."
            )
        return None
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        metrics = None
    if not isinstance(metrics, dict) or metrics.get("job") != job:
        raise RecordError(f"{file} was not made by {job}. Use another --out.")
    return metrics


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    return ", ".join(f"{k}: {old.get(k)} there, {new.get(k)} now" for k in keys)
