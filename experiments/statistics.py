"""The mean over seeds and its interval; that of a share of few images."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval, NaN for a single value."""

    mean: float
    half_width: float = math.nan


def interval(values: Sequence[float]) -> Interval:
    """Mean of independent values, at least one, and its Student-t interval."""
    if len(values) < 2:
        return Interval(float(np.mean(values)))
    quantile = stats.t.ppf(0.975, len(values) - 1)
    return Interval(float(np.mean(values)), float(quantile * stats.sem(values)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share: how far drawing the images moves it.

    Args:
      share: of them, in [0, 1], such as an accuracy.
      count: at least one.
    """
    test = stats.binomtest(round(share * count), count)
    low, high = test.proportion_ci(0.95, method="wilson")
    return float(low), float(high)
