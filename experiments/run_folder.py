"""The folder of a run: what it is made from, how far it has come, how it went.

Its configuration, its record and the parameters it selected are in `records.py`.
"""

import functools
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

import ftp_optax
from experiments import records
from experiments.configs.base import Config
from experiments.data.sources import listed_anew
from experiments.files import RecordError, checksum, read, saving, write
from experiments.models.weights import WeightsError, located
from experiments.tasks.task import Metric

Named = Mapping[str, Any]  # path of a leaf -> number
PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy")
_DIGITS = 16  # of a digest


def versions(*others: str) -> dict[str, str]:
    """Versions of this package, of what every number rests on, and of `others`."""
    packages = (*PACKAGES, *others)
    theirs = {name: importlib.metadata.version(name) for name in packages}
    return {"ftp_optax": ftp_optax.__version__, **theirs}


# ---- What the paths of a configuration lead to --------------------------------------


def check_contents(out: pathlib.Path, config: Config) -> None:
    """Notes what paths lead to in the folder of a run, or compares it with the note.

    What is not there is left out: a finished run does not need it any more.

    Raises:
      RecordError: a path leads to something else than when the run began.
    """
    now = _contents(config)
    file = out / records.DIGESTS
    noted = read(file) if file.exists() and records.begun(out) else {}
    for name in sorted(now.keys() & noted.keys()):
        if now[name] != noted[name]:
            raise RecordError(
                f"{out} was begun with another content of {name}. Use another --out, or"
                " remove the folder."
            )
    if not (out / records.METRICS).exists():
        write(file, noted | now)


def _contents(config: Config) -> dict[str, str]:
    """The weights, and the folder of images where nothing else names the data."""
    contents, weights, data = {}, config.io.weights, config.data
    if weights is not None:
        path = _located(weights)
        path = path / records.METRICS if path and path.is_dir() else path
        if path and path.is_file():
            contents["io.weights"] = _digest(path, path.stat().st_mtime_ns)
    specs = (data.train, data.validation, *config.evaluation.tests.values())
    if config.io.source_dir is not None:
        folder = pathlib.Path(config.io.source_dir).expanduser()
        if folder.is_dir() and (images := _listed(specs, folder, config.io.data_dir)):
            contents["io.source_dir"] = images
    return contents


@functools.cache  # a sweep asks for every run
def _digest(path: pathlib.Path, modified: int) -> str:
    """Of the bytes of a file; `modified` tells its versions apart."""
    del modified
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@functools.cache  # likewise, and the hub may be far
def _located(weights: str) -> pathlib.Path | None:
    """The file that is meant; a run that needs it will say what is wrong."""
    try:
        return located(weights)
    except WeightsError:
        return None


# As a data set that was opened stays open.
_listed = functools.cache(listed_anew)


# ---- What a run says of itself while it trains --------------------------------------


class Log:
    """The history of a run, an entry a validation, and its trace, every few steps.

    Attributes:
      history: `epoch`, `step`, `loss` (mean since the last) and `id_val`, lists.
      trace: `step` and `loss`, lists; `radius`, `drift` and `bound`, lists by path.
      best: `epoch`, `step` and `id_val` of the best ID validation so far, the first
        of equals.
      seen: what `evaluation.observe` saw then.
      seconds: of training so far, evaluation excluded.
      pending: losses since the last validation, where they were computed.
    """

    def __init__(self, out: pathlib.Path, step: int, saved: Mapping[str, Any] | None):
        """A new log, or the one that a checkpoint saved after `step` steps."""
        self.history: dict[str, list]
        self.history = {"epoch": [], "step": [], "loss": [], "id_val": []}
        self.trace: dict[str, Any] = {"step": [], "loss": []}
        self.trace |= {"radius": {}, "drift": {}, "bound": {}}
        self.best: dict[str, Any] | None = None
        self.seen: dict[str, Any] = {}
        self.seconds = 0.0
        self.pending: list[Any] = []
        vars(self).update(saved or {})
        from experiments.board import Board  # needed to train alone

        self._board = Board(out / "tensorboard", step)

    def saved(self) -> dict[str, Any]:
        """All of it, as JSON."""
        own = {k: v for k, v in vars(self).items() if k != "_board"}
        return own | {"pending": [float(x) for x in jax.device_get(self.pending)]}

    def step(self, scalars: Mapping[str, jax.Array]) -> None:
        """Notes the loss of a step, without waiting for it."""
        self.pending.append(scalars["loss"])

    def observe(
        self, step: int, scalars: Mapping[str, Any], seen: Mapping[str, Named]
    ) -> None:
        """Notes what `evaluation.observe` sees after `step` steps."""
        scalars, seen = jax.device_get((scalars, seen))
        self.trace["step"].append(step)
        self.trace["loss"].append(_short(scalars["loss"]))
        for name, value in scalars.items():
            self._board.add(f"train/{name}", value, step)
        for quantity, leaves in seen.items():
            for path, value in leaves.items():
                self.trace[quantity].setdefault(path, []).append(_short(value))
                self._board.add(f"{quantity}/{path}", value, step)

    @property
    def diverged(self) -> bool:
        """Whether the last loss of the history is no number any more."""
        return not np.isfinite(self.history["loss"][-1:]).all()

    def validated(self, metric: Metric, epoch: float, step: int, id_val: float) -> bool:
        """Notes an ID validation; returns whether it is the best so far."""
        loss = float(np.mean(np.array(jax.device_get(self.pending), np.float64)))
        self.pending = []
        entry = {"epoch": epoch, "step": step, "loss": loss, "id_val": id_val}
        for name, value in entry.items():
            self.history[name].append(value)
        self._board.add("validation/id", id_val, step)
        self._board.flush()
        best, score = self.best, metric.score
        better = best is None or score(id_val) > score(best["id_val"])
        if better:
            self.best = {"epoch": epoch, "step": step, "id_val": id_val}
        return better

    def close(self) -> None:
        self._board.close()


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


# ---- What a run in progress keeps on disk ------------------------------------------


class Checkpoints:
    """The two newest checkpoints of a run, the older in case a disk spoils the newer.

    A checkpoint holds the state, the best parameters so far, the log as JSON, and the
    position of each data iterator. Its checksum is noted when it is complete; without
    one it does not count.
    """

    def __init__(self, path: pathlib.Path, workers: int):
        self.path = path
        self._workers = workers  # an iterator goes on with as many as it had
        self._noted = path.with_name(records.CHECKSUMS)
        self._manager = ocp.CheckpointManager(
            path.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False
            ),
        )

    def save(
        self, step: int, arrays: Any, log: Mapping[str, Any], data: Mapping[str, Any]
    ) -> None:
        """Saves what a run is after `step` steps; returns when it is on disk."""
        if step in self._manager.all_steps():
            return
        iterators = {k: grain.checkpoint.CheckpointSave(v) for k, v in data.items()}
        content = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            log=ocp.args.JsonSave({**log, "workers": self._workers}),
            **iterators,
        )
        with saving(self.path / str(step)):
            self._manager.save(step, args=content)
        sums = {**self._sums(), str(step): checksum(self.path / str(step))}
        kept = map(str, self._manager.all_steps())
        write(self._noted, {name: sums[name] for name in kept if name in sums})

    def _sums(self) -> dict[str, Any]:
        return read(self._noted) if self._noted.exists() else {}

    def _newest(self, say: Callable[[str], None]) -> int | None:
        """The newest checkpoint that is as it was saved; newer ones are removed."""
        sums = self._sums()
        for step in sorted(self._manager.all_steps(), reverse=True):
            place = self.path / str(step)
            if sums.get(place.name) == checksum(place):
                return step
            say(f"{place} is damaged or incomplete; going on from an earlier state.")
            self._manager.delete(step)
        return None

    def restore(
        self, like: Any, data: Mapping[str, Any], say: Callable[[str], None]
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest whole checkpoint, if any; moves the iterators to where it was.

        Args:
          like: arrays of the same structure, shapes, dtypes and placement.
          data: the iterators, by the names they were saved under.
          say: is told of each that is not whole.

        Returns:
          How many steps were taken, the arrays, and the log.

        Raises:
          RecordError: what is there does not fit.
        """
        step = self._newest(say)
        if step is None:
            return None
        log = self._manager.restore(
            step, args=ocp.args.Composite(log=ocp.args.JsonRestore())
        )["log"]
        if (workers := log.pop("workers")) != self._workers:
            raise RecordError(
                f"{self.path.parent} is a run in progress (io.workers:"
                f" {workers} there, {self._workers} now). It goes on with as"
                " many as it had."
            )
        iterators = {k: grain.checkpoint.CheckpointRestore(v) for k, v in data.items()}
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(like),
                    **iterators,
                ),
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise RecordError(
                f"{self.path}: step {step} does not fit this model and method"
                f" ({' '.join(str(error).split())[:200]}). Remove the folder to start"
                " over."
            ) from error
        # Copied: new arrays, which no compiled step tells from those it made itself.
        arrays = jax.tree.map(
            lambda x, y: jax.device_put(np.array(x), y.sharding),
            restored["arrays"],
            like,
        )
        return step, arrays, log

    def close(self) -> None:
        self._manager.close()
