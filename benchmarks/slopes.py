"""How fast does a quantity grow: the slope of its logarithm?"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from benchmarks.ratios import Ratio

LINEAR = 1.05  # growth that counts as linear


class Series(NamedTuple):
    """One quantity of one contender along one axis."""

    x: Sequence[float]
    y: Sequence[float]


def fit(series: Series) -> Ratio:
    """The slope of log y over log x by least squares, with its 95 % interval.

    1 is linear, 0 constant, -1 a fair share. The interval is Student's, from how far
    the points lie from the line; with two points there is none.

    Raises:
      ValueError: there are fewer than two points.
    """
    if len(series.x) < 2:
        raise ValueError(f"expected two points at least, got {len(series.x)}")
    line: Any = scipy.stats.linregress(np.log(series.x), np.log(series.y))
    free = len(series.x) - 2
    spread = scipy.stats.t.ppf(0.975, free) * line.stderr if free else 0.0
    slope = float(line.slope)
    reach = float(spread) if math.isfinite(spread) else 0.0
    return Ratio(slope, slope - reach, slope + reach)


def last(series: Series) -> float:
    """The slope between the last two points: growth where cost is largest."""
    (x0, x1), (y0, y1) = series.x[-2:], series.y[-2:]
    return math.log(y1 / y0) / math.log(x1 / x0)
