"""What a run says of itself while it trains, for its record and for TensorBoard."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

Named = Mapping[str, Any]  # path -> number


class Log:
    """The history of a run, one entry an epoch, and its trace, every few steps.

    Attributes:
      history: `epoch`, `step`, `loss` (mean over the epoch) and `id_val`, lists.
      trace: `step` and `loss`, lists; `radius`, `drift` and `bound`, lists by path.
      best: `epoch`, `step` and `id_val` of the best ID validation so far, the first
        of equals.
      seen: what `observation.observe` saw then.
      seconds: of training so far, evaluation excluded.
    """

    def __init__(self, out: pathlib.Path, step: int, saved: Mapping[str, Any] | None):
        """A new log, or the one that a checkpoint saved after `step` steps."""
        content: Any = saved or {
            "history": {"epoch": [], "step": [], "loss": [], "id_val": []},
            "trace": {"step": [], "loss": [], "radius": {}, "drift": {}, "bound": {}},
            "best": None,
            "seen": {},
            "seconds": 0.0,
            "pending": [],
        }
        self.history: dict[str, list] = content["history"]
        self.trace: dict[str, Any] = content["trace"]
        self.best: dict[str, Any] | None = content["best"]
        self.seen: dict[str, Any] = content["seen"]
        self.seconds: float = content["seconds"]
        self._losses: list[Any] = content["pending"]  # of the epoch so far
        # TensorBoard hides what an earlier start wrote from here on.
        purged = step + 1 if step else 0
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=purged)

    def saved(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "history": self.history,
            "trace": self.trace,
            "best": self.best,
            "seen": self.seen,
            "seconds": self.seconds,
            "pending": [float(x) for x in jax.device_get(self._losses)],
        }

    def step(self, scalars: Mapping[str, jax.Array]) -> None:
        """Notes the loss of a step, without waiting for it."""
        self._losses.append(scalars["loss"])

    def observe(
        self, step: int, scalars: Mapping[str, Any], seen: Mapping[str, Named]
    ) -> None:
        """Notes what `observation.observe` sees after `step` steps."""
        scalars, seen = jax.device_get((scalars, seen))
        self.trace["step"].append(step)
        self.trace["loss"].append(_short(scalars["loss"]))
        for name, value in scalars.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        for quantity, leaves in seen.items():
            for path, value in leaves.items():
                self.trace[quantity].setdefault(path, []).append(_short(value))
                self._writer.add_scalar(f"{quantity}/{path}", value, step)

    @property
    def diverged(self) -> bool:
        """Whether the loss of the last epoch is no number any more."""
        return not np.isfinite(self.history["loss"][-1:]).all()

    def epoch(self, epoch: int, step: int, id_val: float) -> bool:
        """Closes an epoch; returns whether it is the best so far."""
        loss = float(np.mean(np.array(jax.device_get(self._losses), np.float64)))
        self._losses = []
        entry = {"epoch": epoch, "step": step, "loss": loss, "id_val": id_val}
        for name, value in entry.items():
            self.history[name].append(value)
        self._writer.add_scalar("validation/id", id_val, step)
        better = self.best is None or id_val > self.best["id_val"]
        if better:
            self.best = {"epoch": epoch, "step": step, "id_val": id_val}
        return better

    def close(self) -> None:
        self._writer.close()


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")
