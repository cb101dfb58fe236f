import math

import numpy as np
from scipy import stats

from experiments.statistics import interval, wilson


def test_the_interval_is_students():
    values = [0.91, 0.94, 0.90, 0.97]
    mean, half_width = interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose((mean - half_width, mean + half_width), expected)
    # Two values 2 apart: t(0.975, 1) = 12.706, standard error 1.
    np.testing.assert_allclose(interval([0.0, 2.0]), (1.0, 12.7062), rtol=1e-5)
    assert math.isnan(interval([0.5]).half_width)


def test_the_interval_of_a_share_is_wilsons():
    # By hand: (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), z = 1.95996.
    np.testing.assert_allclose(wilson(0.5, 100), (0.403832, 0.596168), rtol=1e-5)
    np.testing.assert_allclose(wilson(1.0, 10), (0.722467, 1.0), rtol=1e-5)
