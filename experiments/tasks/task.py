"""What a task is: all that is not the same for labels, masks and other targets."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data.examples import Target


class Features(NamedTuple):
    """What a head sees, `(n, channels)` float32, and the targets `(n, ...)`."""

    vectors: np.ndarray
    targets: np.ndarray


class Head(NamedTuple):
    """A linear layer: kernel `(channels, outputs)` and bias `(outputs,)`, float32."""

    kernel: np.ndarray
    bias: np.ndarray


class Probe(NamedTuple):
    """How a linear head is fitted to features at once, without gradient steps.

    Attributes:
      counts: (targets `(n, ...)`, outputs) -> bool `(n,)`: those that can be fitted.
      check: raises a `ValueError` if a head cannot be fitted to these features.
      fit: (features, outputs, strength) -> head; the strength is the inverse of a
        penalty.
      score: (head, features) -> how good the head is there; more is better.
    """

    counts: Callable[[np.ndarray, int], np.ndarray]
    check: Callable[[Features], None]
    fit: Callable[[Features, int, float], Head]
    score: Callable[[Head, Features], float]


class Metric(NamedTuple):
    """The headline figure, by which ID validation selects, as records hold it.

    Attributes:
      name: its key among the figures.
      higher_is_better: or less is, as of an angle.
      unit: "%" of a share, which is held in [0, 1]; else as it is shown.
    """

    name: str
    higher_is_better: bool = True
    unit: str = "%"

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").replace(" iou", " IoU")

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    def score(self, value: float | None) -> float:
        """A number of which more is better; what is missing is worse than any."""
        if value is None or math.isnan(value):
            return -math.inf
        return value if self.higher_is_better else -value

    def kept(self, shifted: float | None, id_value: float | None) -> float | None:
        """The share of what a model can do on ID data that it can do on shifted data.

        `None` if either is missing, or what would be divided by is 0.
        """
        if shifted is None or id_value is None:
            return None
        over, under = shifted, id_value
        if not self.higher_is_better:
            over, under = under, over
        return over / under if under else None


def metric(record: Mapping[str, Any]) -> Metric:
    """The headline figure of a record."""
    return Metric(*(record["metric"][field] for field in Metric._fields))


def selection_score(record: Mapping[str, Any]) -> float:
    """What settings are chosen by: ID validation; of a diverged run worse than any."""
    finished = record["status"] == "finished"
    return metric(record).score(record["id_val"] if finished else None)


class Task(NamedTuple):
    """One kind of prediction; hashable, so that jit can specialise on it.

    Attributes:
      name: in messages.
      target: what the data has to hold.
      head: (backbone, outputs, rngs=...) -> the model.
      loss: (outputs, targets, label smoothing) -> mean over what counts.
      tally: (outputs, targets, mask `(n,)`) -> sums; those of two batches add up.
      figures: sums -> figures by name.
      glance: name, and (outputs, targets) -> a figure of a batch that is trained on.
      metric: the headline among the figures.
      probe: fits a linear head.
      width: how many numbers the head gives; 0: one a class.
    """

    name: str
    target: Target
    head: Callable[..., Any]
    loss: Callable[[jax.Array, jax.Array, float], jax.Array]
    tally: Callable[[jax.Array, jax.Array, jax.Array], Any]
    figures: Callable[[Any], dict[str, float]]
    glance: tuple[str, Callable[[jax.Array, jax.Array], jax.Array]]
    metric: Metric
    probe: Probe
    width: int = 0

    def outputs(self, num_classes: int) -> int:
        """How many numbers the head gives, of a target with so many classes."""
        return self.width or num_classes
