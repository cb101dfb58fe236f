"""Accuracy in every domain, and the mean over seeds with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats

from experiments.datasets.digits import HELD_OUT, KEPT, TARGET
from experiments.models.small import Params, logits

GROUPS = {"kept": KEPT, "held_out": HELD_OUT, "ood": KEPT + HELD_OUT}


@jax.jit
def _correct(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    # One domain at a time: all at once would not fit into the caches.
    return jax.lax.map(
        lambda x: (logits(params, x).argmax(-1) == labels).mean(), images
    )


def accuracies(
    params: Params, domains: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, float]:
    """Accuracy in [0, 1] by domain, of images `(n, side, side)` with labels `(n,)`."""
    correct = _correct(params, np.stack(list(domains.values())), labels)
    return dict(zip(domains, np.asarray(correct, np.float64).tolist(), strict=True))


def group_means(accuracy: Mapping[str, float]) -> dict[str, float]:
    """In-distribution accuracy and the mean over each group of OOD domains."""
    means = {k: float(np.mean([accuracy[d] for d in v])) for k, v in GROUPS.items()}
    return {"id": accuracy[TARGET], **means}


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval, NaN for a single value."""

    mean: float
    half_width: float


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent values and its Student-t interval.

    Args:
      values: one per seed, at least one.
      confidence: coverage, in (0, 1).

    Returns:
      The mean, and half the width of the interval around it.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Interval(float(array.mean()), math.nan)
    quantile = stats.t.ppf((1 + confidence) / 2, len(array) - 1)
    return Interval(float(array.mean()), float(quantile * stats.sem(array)))
