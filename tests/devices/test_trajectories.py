"""Training on eight devices ends where training on one does, however it is split.

After the last step params and state still lie where they did; `placements.train` looks.
"""

import numpy as np
import pytest

from devices import network, placements, shard_map_cases
from devices.network import assert_equal


@pytest.mark.parametrize("stacked", [False, True], ids=["alone", "stacked"])
def test_the_radii_of_the_run_to_compare_with_move_and_bind(eight, stacked):
    (before, after), summary = eight(network.how_it_went, stacked)
    assert after < 0.2 * before
    assert len(summary) == 6 + stacked
    for path, (radius, norm, bound, _) in summary.items():
        assert np.all(radius > 0.1), path
        assert np.all(norm >= radius), path
        if path.endswith("kernel"):
            assert np.all(bound > 0), path
    bound = np.concatenate([np.ravel(leaf[2]) for leaf in summary.values()])
    assert np.any((bound > 0) & (bound < 1))


@pytest.mark.parametrize("mode", placements.MODES)
@pytest.mark.parametrize(
    ("split", "stacked", "layers"),
    [
        ("data parallel", False, None),
        ("rows", False, None),
        ("columns", False, None),
        ("tensor", False, None),
        ("tensor and rows or columns", False, None),
        ("rows", True, None),
        ("columns", True, None),
        ("rows", True, "fsdp"),
    ],
)
def test_training_in_parts_equals_one_device(eight, split, stacked, layers, mode):
    actual = eight(placements.train, split, mode, stacked, layers)
    assert_equal(actual, eight(network.expected, stacked))


# ---- Modes and options that are not the default ------------------------------------

FEW = 12
EACH = pytest.mark.parametrize("option", [o for o in network.OPTIONS if o != "default"])


@EACH
def test_radii_of_the_run_with_an_option_move_and_bind_some_leaves(eight, option):
    _, summary = eight(network.how_it_went, False, option, FEW)
    assert all(leaf[0] > 0.1 for leaf in summary.values())
    bound = np.array([leaf[2] for leaf in summary.values()])
    assert bound.max() == 1
    assert bound.min() < 1


@EACH
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_an_option_in_shards_equals_one_device(eight, split, option):
    expected = eight(network.expected, False, option, FEW)
    actual = eight(placements.train, split, "auto", False, None, option, FEW)
    assert_equal(actual, expected)
    run = (split, "callable", False, True, option, FEW)
    assert_equal(eight(shard_map_cases.train, *run), expected)
