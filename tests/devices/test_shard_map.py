"""Inside `jax.shard_map`, `specs` makes of the shards' norms those of the leaves."""

import jax
import pytest

from devices import network, shard_map_cases
from devices.network import assert_equal


@pytest.mark.parametrize(
    ("split", "form"),
    [
        ("rows", "callable"),
        ("columns", "one"),
        ("tensor", "callable"),
        ("tensor and rows or columns", "tree"),
        ("rows over both axes", "tree"),
    ],
)
def test_params_in_shards_with_specs_equal_one_device(eight, split, form):
    assert_equal(eight(shard_map_cases.train, split, form), eight(network.expected))


def test_specs_do_without_the_tracking_of_varying_values(eight):
    actual = eight(shard_map_cases.train, "columns", "one", False, False)
    assert_equal(actual, eight(network.expected))


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_a_stack_of_layers_in_shards_equals_one_device(eight, split):
    actual = eight(shard_map_cases.train, split, "callable", True)
    assert_equal(actual, eight(network.expected, True))


@pytest.mark.parametrize("split", ["rows", "columns", "tensor and rows or columns"])
def test_params_in_shards_without_specs_are_refused(eight, split):
    with pytest.raises(ValueError, match="specs") as refusal:
        eight(shard_map_cases.train_without_specs, split)
    assert refusal.match(r"block/(query|out|up|down)/(kernel|bias)")


@pytest.mark.parametrize("relative", shard_map_cases.RELATIVES)
@pytest.mark.parametrize("split", ["rows", "columns", "tensor"])
def test_relatives_refuse_a_leaf_in_shards_and_take_a_whole_one(eight, split, relative):
    words = r"^specs: the leaf 'block/\w+/\w+' differs between .* expect whole leaves"
    with pytest.raises(ValueError, match=words):
        eight(shard_map_cases.trace, relative, split)
    eight(shard_map_cases.trace, relative, "data parallel")


def test_specs_that_split_a_stack_by_its_layers_are_refused():
    tx = network.optimizer(specs=jax.P("fsdp"))
    with pytest.raises(ValueError, match=r"specs: .*'blocks/down/bias'.* layers"):
        tx.init(network.pretrained(stacked=True))


def test_replicated_params_with_averaged_gradients_need_no_specs(eight):
    assert_equal(eight(shard_map_cases.train_replicated), eight(network.expected))


def test_pmap_with_averaged_gradients_equals_one_device(eight):
    assert_equal(eight(shard_map_cases.train_under_pmap), eight(network.expected))
