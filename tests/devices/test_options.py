"""Modes and options that are not the default end on eight devices where on one."""

import numpy as np
import pytest

from devices import network, placements, shard_map_cases
from devices.network import assert_equal

STEPS = 12
EACH = pytest.mark.parametrize("option", [o for o in network.OPTIONS if o != "default"])
SPLITS = pytest.mark.parametrize("split", ["rows", "columns"])


@EACH
def test_radii_of_the_run_to_compare_with_move_and_bind_some_leaves(eight, option):
    _, summary = eight(network.how_it_went, False, option, STEPS)
    assert all(leaf[0] > 0.1 for leaf in summary.values())
    bound = np.array([leaf[2] for leaf in summary.values()])
    assert bound.max() == 1
    assert bound.min() < 1


@EACH
@SPLITS
def test_fully_sharded_training_equals_one_device(eight, split, option):
    actual = eight(placements.train, split, "auto", False, None, option, STEPS)
    assert_equal(actual, eight(network.expected, False, option, STEPS))


@EACH
@SPLITS
def test_params_in_shards_with_specs_equal_one_device(eight, split, option):
    run = (split, "callable", False, True, option, STEPS)
    actual = eight(shard_map_cases.train, *run)
    assert_equal(actual, eight(network.expected, False, option, STEPS))
