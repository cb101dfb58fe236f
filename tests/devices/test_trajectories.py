"""Training on eight devices ends where training on one does, however it is split.

After the last step params and state still lie where they did; `placements.train` looks.
"""

import numpy as np
import pytest

from devices import network, placements, pmap_cases
from devices.network import assert_equal

MODES = pytest.mark.parametrize("mode", placements.MODES)


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


def test_pmap_with_averaged_gradients_equals_one_device(eight):
    assert_equal(eight(pmap_cases.train), eight(network.expected))


@MODES
def test_data_parallel_training_equals_one_device(eight, mode):
    actual = eight(placements.train, "data parallel", mode)
    assert_equal(actual, eight(network.expected))


@MODES
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_fully_sharded_training_equals_one_device(eight, split, mode):
    assert_equal(eight(placements.train, split, mode), eight(network.expected))


@MODES
@pytest.mark.parametrize("split", ["tensor", "tensor and rows or columns"])
def test_tensor_parallel_training_equals_one_device(eight, split, mode):
    assert_equal(eight(placements.train, split, mode), eight(network.expected))


@MODES
@pytest.mark.parametrize("split", ["rows", "columns"])
def test_a_fully_sharded_stack_of_layers_equals_one_device(eight, split, mode):
    actual = eight(placements.train, split, mode, True)
    assert_equal(actual, eight(network.expected, True))


@MODES
def test_a_stack_split_by_its_layers_equals_one_device(eight, mode):
    actual = eight(placements.train, "rows", mode, True, "fsdp")
    assert_equal(actual, eight(network.expected, True))
