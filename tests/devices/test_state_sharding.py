"""Anchor and displacement lie where the params do; the radii lie everywhere."""

import pytest
from jax.sharding import PartitionSpec as P

from devices import placements, state_cases


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("mode", placements.MODES)
@pytest.mark.parametrize("split", state_cases.SPLITS)
def test_init_puts_the_state_where_the_params_are(eight, split, mode, how):
    assert eight(state_cases.of_init, split, mode, how) == {}


@pytest.mark.parametrize("split", state_cases.SPLITS)
def test_map_params_gives_the_params_shardings_to_anchor_and_displacement(eight, split):
    assert eight(state_cases.of_map_params, split) == {}


@pytest.mark.parametrize("how", ["eager", "jit"])
def test_nnx_optimizer_puts_the_state_where_the_metadata_says(eight, how):
    assert eight(state_cases.of_nnx, how) == {}


def test_get_partition_spec_of_boxed_params_covers_the_whole_state(eight):
    specs = eight(state_cases.partition_specs)
    assert specs["anchor"] == specs["displacement"] == state_cases.MLP_SPECS
    assert specs["radii"] == [P()]
    assert set(specs["radius_state"]) == {P()}


@pytest.mark.parametrize("how", ["get_sharding", "jit"])
def test_the_state_of_boxed_params_lies_where_they_do(eight, how):
    assert eight(state_cases.of_linen, how) == {}


@pytest.mark.parametrize("mode", placements.MODES)
@pytest.mark.parametrize("source", ["number", "number, jit", "reset", "reset, jit"])
def test_an_anchor_from_the_host_is_put_where_the_params_are(eight, mode, source):
    assert eight(state_cases.of_anchor, mode, source) == {}
