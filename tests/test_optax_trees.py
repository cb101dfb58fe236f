"""FTP's state and params as trees: tools that search or map them, and unusual trees."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from contract_runs import (
    assert_as_by_hand,
    assert_same,
    assert_within_radii,
    feed,
    gradients,
    pretrained,
)
from ftp_optax import FTPState, with_ftp


def test_tree_get_finds_radii_anchor_and_displacement():
    params = pretrained()
    tx = optax.chain(optax.clip(1.0), with_ftp(optax.adamw(1e-2), exclude="head"))
    _, state = feed(tx, params, gradients(2, params))
    radii = ftp_optax.radii(state, params)
    found = optax.tree.get(state, "radii")
    np.testing.assert_array_equal(found, jnp.stack(list(radii.values())))
    anchor: Any = optax.tree.get(state, "anchor")
    assert_same(anchor["body"], params["body"])
    displacement: Any = optax.tree.get(state, "displacement")
    assert jax.tree.structure(displacement) == jax.tree.structure(state[1][1].anchor)
    assert float(jnp.min(jnp.abs(displacement["body"]["kernel"]))) > 0.0


def test_map_params_takes_specs_along_where_the_anchor_is_implicit():
    params = pretrained()
    tx = with_ftp(optax.adamw(1e-2), anchor="implicit", exclude="head")
    specs = jax.tree.map(lambda _: "like the params", params)
    found = optax.tree.map_params(
        tx,
        lambda _, spec: spec,
        tx.init(params),
        specs,
        transform_non_params=lambda _: "everywhere",
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    assert found[1].displacement["body"] == specs["body"]
    assert found[1].radii == "everywhere"


def test_kappa_is_scheduled_beside_a_callable_for_the_axes():
    stacked = {"blocks": {"kernel": jnp.ones((3, 4, 4))}}
    axes = functools.partial(ftp_optax.flax_axes, scanned="^blocks/")
    tx = optax.inject_hyperparams(with_ftp, static_args=("axes", "mask"))(
        optax.adamw(1e-2),
        kappa=optax.linear_schedule(0.0, 1.0, 2),
        axes=axes,
        mask=lambda params: jax.tree.map(lambda _: True, params),
    )
    _, state = tx.update(stacked, tx.init(stacked), stacked)
    _, state = tx.update(stacked, state, stacked)
    assert float(state.hyperparams["kappa"]) == 0.5
    assert ftp_optax.radii(state, stacked, axes=axes)["blocks/kernel"].shape == (3,)


def kept(_: Any) -> str:
    return "not of the params"


def is_ftp(node: Any) -> bool:
    return isinstance(node, FTPState)


@pytest.mark.parametrize(
    "tx",
    [
        with_ftp(optax.adamw(1e-2)),
        with_ftp(optax.adamw(1e-2), anchor=0.0),
        optax.inject_hyperparams(with_ftp)(optax.adamw(1e-2)),
    ],
    ids=["plain", "a number", "injected"],
)
def test_map_params_maps_anchor_and_displacement_and_spares_the_radii(tx):
    params = pretrained()
    specs = {k: {n: f"{k}/{n}" for n in ("bias", "kernel")} for k in params}
    mapped: Any = optax.tree.map_params(
        tx, lambda _, spec: spec, tx.init(params), specs, transform_non_params=kept
    )
    (found,) = filter(is_ftp, jax.tree.leaves(mapped, is_leaf=is_ftp))
    assert found.anchor == specs
    assert found.displacement == specs
    assert found.radii == kept(None)
    # The scale of its guard; a count and two moments.
    assert jax.tree.leaves(found.radius_state) == [kept(None)] * 4


def test_map_params_maps_a_state_with_excluded_leaves_as_it_does_a_masked_one():
    params = pretrained()
    tx = with_ftp(optax.adamw(1e-2), exclude="head")
    state = tx.init(params)
    with pytest.raises(ValueError, match="MaskedNode"):
        optax.tree.map_params(tx, lambda v, w: w, state, params)

    def masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    both: Any = optax.tree.map_params(
        tx,
        lambda v, w: v if masked(v) else (v.shape, w.shape),
        state,
        params,
        transform_non_params=kept,
        is_leaf=masked,
    )
    mapped = both[1]
    for field in (mapped.anchor, mapped.displacement):
        assert field["body"] == {"bias": ((5,), (5,)), "kernel": ((3, 5), (3, 5))}
        assert field["head"]["kernel"] == optax.MaskedNode()
    assert mapped.radii == kept(None)


def test_map_params_without_further_trees_needs_no_is_leaf():
    params = pretrained()
    tx = optax.chain(optax.clip(1.0), with_ftp(optax.adamw(1e-2), exclude="head"))
    _, state = feed(tx, params, gradients(3, params))
    doubled: Any = optax.tree.map_params(tx, lambda v: 2 * v, state)
    before, after = state[1][1], doubled[1][1]
    assert_same(after.anchor, jax.tree.map(lambda v: 2 * v, before.anchor))
    assert_same(after.displacement, jax.tree.map(lambda v: 2 * v, before.displacement))
    assert_same((after.radii, after.radius_state), (before.radii, before.radius_state))


def test_none_in_the_params_stays_none():
    params = {"a": jnp.ones((2, 3)), "b": None, "c": [None, jnp.ones(4)]}
    trained, state = feed(with_ftp(optax.adamw(1e-1)), params, gradients(4, params))
    assert trained["b"] is None
    assert trained["c"][0] is None
    radii = ftp_optax.radii(state, params)
    assert list(radii) == ["a", "c/1"]
    assert_within_radii(trained, params, radii)
    without = {"a": params["a"], "c": [params["c"][1]]}
    expected, _ = feed(with_ftp(optax.adamw(1e-1)), without, gradients(4, without))
    assert_same(trained["a"], expected["a"])
    assert_same(trained["c"][1], expected["c"][0])


@pytest.mark.parametrize("params", [{}, (), {"a": None, "b": []}], ids=repr)
def test_an_empty_tree_is_left_empty(params):
    trained, state = feed(with_ftp(optax.adamw(1e-1)), params, [params] * 3)
    assert trained == params
    assert state[1].radii.shape == (0,)
    assert ftp_optax.radii(state, params) == {}


@pytest.mark.parametrize(
    "params",
    [jnp.asarray(2.0), jnp.arange(1.0, 4.0), 2.0, {"scale": 2.0}],
    ids=["0-d array", "bare array", "Python float", "Python float in a tree"],
)
def test_a_scalar_or_a_bare_array_is_one_row(params):
    as_arrays = jax.tree.map(jnp.asarray, params)
    grads = gradients(6, as_arrays)
    tx = with_ftp(optax.sgd(0.1))
    updates, _ = tx.update(grads[0], tx.init(params), params)
    assert jax.tree.leaves(updates)[0].shape == np.shape(jax.tree.leaves(params)[0])
    trained, state = feed(tx, params, grads)
    assert_as_by_hand(trained, state, as_arrays, grads)
