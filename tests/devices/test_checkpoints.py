"""A run saved on eight devices goes on over four, or on one."""

import pytest

from devices import checkpoint_cases, network
from devices.network import assert_equal

SPLIT = "rows"


@pytest.fixture(scope="module")
def saved(eight, tmp_path_factory):
    path = tmp_path_factory.mktemp("sharded") / "checkpoint"
    eight(checkpoint_cases.save, path, SPLIT)
    return path


@pytest.mark.parametrize(("fixture", "count"), [("four", 4), ("one", 1)])
def test_a_run_saved_on_eight_devices_goes_on_over_fewer(
    fixture, count, saved, eight, request
):
    fewer = request.getfixturevalue(fixture)
    actual, holders = fewer(checkpoint_cases.go_on, saved, SPLIT)
    assert holders == {count}
    assert_equal(actual, eight(network.expected))
