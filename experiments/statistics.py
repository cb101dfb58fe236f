"""The mean over seeds and its interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


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
