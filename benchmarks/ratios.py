"""How many times as much one thing takes as another, compared round by round."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 4000  # of the bootstrap


class Ratio(NamedTuple):
    """Median over rounds, and the ends of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compares two methods round by round, so that a slow spell hurts both."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def exactly(value: float) -> Ratio:
    """A ratio that no noise touches."""
    return Ratio(float(value), float(value), float(value))


def interval(value: Mapping[str, float]) -> str:
    """Formats `1.010-1.040`; nothing where nothing varies."""
    if value["low"] == value["high"]:
        return ""
    dash = " to " if value["low"] < 0 else "-"
    return f"{value['low']:.3f}{dash}{value['high']:.3f}"
