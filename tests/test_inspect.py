"""Radii and drift by name, and a new anchor, in whatever state holds them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trees
from ftp_optax import (
    check_anchor,
    flax_axes,
    radii,
    reset_anchor,
    summary,
    tpgm,
    with_ftp,
)

SHAPES = {"kernel": (4, 3), "bias": (3,), "head": (3, 2)}
LABELS = {"kernel": "body", "bias": "body", "head": "head"}
SGD = optax.sgd(0.1)
BODY = {"kernel": True, "bias": True, "head": False}


def base():
    return with_ftp(optax.adamw(0.1), exclude="head")


WRAPPERS = {
    "plain": base,
    "chain": lambda: optax.chain(optax.clip(100.0), base()),
    "masked": lambda: optax.masked(with_ftp(optax.adamw(0.1)), BODY),
    "partition": lambda: optax.partition(
        {"body": with_ftp(optax.adamw(0.1)), "head": SGD}, LABELS
    ),
    "MultiSteps": lambda: optax.MultiSteps(
        base(), every_k_schedule=1
    ).gradient_transformation(),
    "inject": lambda: optax.inject_hyperparams(with_ftp)(
        optax.adamw(0.1), kappa=1.0, exclude="head"
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(base(), 3),
}


def after(tx, num_steps=6):
    params = trees.random_tree(SHAPES)
    return trees.feed(tx, params, trees.gradients(params, num_steps))


@pytest.mark.parametrize("params_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kept", [None, "bfloat16", "int8"])
def test_bound_rows_are_counted_whatever_the_dtypes(kept, params_dtype):
    # Rows of 8 and 0.03 a step: one is shortened to the radius of 0.1, one is not.
    tx = with_ftp(
        optax.sgd(1.0),
        initial_radius=0.1,
        radius_optimizer=optax.set_to_zero(),
        displacement_dtype=kept,
    )
    params = {"kernel": jnp.zeros((8, 2), params_dtype)}
    state = tx.init(params)
    assert summary(state, params)["kernel"].bound == 0
    grads = {"kernel": jnp.full((8, 2), 1.0, params_dtype).at[:, 1].set(0.004)}
    for after, later in trees.steps(tx, params, [grads] * 2, state):
        assert summary(later, after)["kernel"].bound == 0.5


@pytest.mark.parametrize("wrapper", sorted(WRAPPERS))
def test_any_state_has_its_radii_read_and_is_reset_as_a_fresh_init_would(wrapper):
    tx = WRAPPERS[wrapper]()
    params, state = after(tx)
    _, expected = after(base())
    read = radii(state, params)
    assert sorted(read) == ["bias", "kernel"]
    assert all(r.shape == () for r in read.values())
    np.testing.assert_allclose(list(read.values()), expected[1].radii, rtol=1e-5)
    again, fresh = reset_anchor(state, params), tx.init(params)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for field in ("anchor", "radii", "displacement", "radius_state"):
        trees.assert_same(optax.tree.get(again, field), optax.tree.get(fresh, field))


@pytest.mark.parametrize(
    ("norm", "radius", "columns", "expected"),
    [
        ("mars", 0.25, [[0.1, 0.2, 0.3, 0.4]], (0.25, 0.4, 0.5, 0.4)),
        ("frobenius", 1.0, [[1.0, 1.0], [1.0, 1.0]], (1.0, 2.0, 1.0, 2.0)),
    ],
)
def test_summary_tells_rows_within_the_radius_from_bound_ones(
    norm, radius, columns, expected
):
    grads = {"kernel": jnp.asarray(columns)}
    zeros = jax.tree.map(jnp.zeros_like, grads)
    tx = with_ftp(optax.sgd(1.0), norm=norm, initial_radius=radius)
    params, state = trees.feed(tx, zeros, [grads])
    np.testing.assert_allclose(summary(state, params)["kernel"], expected, rtol=1e-6)


def test_a_stack_has_one_value_per_layer():
    axes = functools.partial(flax_axes, scanned="blocks")
    params = trees.random_tree({"blocks": (3, 4, 2), "out": (2, 2)}, 0)
    tx = with_ftp(SGD, axes=axes)
    params, state = trees.feed(tx, params, trees.gradients(params, 4))
    found = summary(state, params)
    assert [x.shape for x in found["blocks"]] == [(3,)] * 4
    assert found["out"].radius.shape == ()
    assert (found["blocks"].norm > found["blocks"].radius).all()
    np.testing.assert_array_equal(
        jnp.concatenate([found["blocks"].radius, found["out"].radius[None]]),
        state[1].radii,
    )


def test_bound_rows_are_counted_layer_by_layer():
    params = {"kernel": jnp.zeros((2, 1, 2))}
    axes = functools.partial(flax_axes, scanned="kernel")
    tx = with_ftp(optax.sgd(1.0), axes=axes, initial_radius=0.25)
    grads = {"kernel": jnp.asarray([[[0.1, 0.4]], [[0.3, 0.4]]])}
    _, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(summary(state, params)["kernel"].bound, [0.5, 1.0])


def test_a_stack_is_read_under_jit_with_its_axes_and_refused_without():
    axes = functools.partial(flax_axes, scanned="blocks")
    params = trees.random_tree({"blocks": (3, 4, 2)}, 0)
    state = with_ftp(SGD, axes=axes).init(params)
    assert radii(state, params)["blocks"].shape == (3,)
    read = functools.partial(radii, axes=axes)
    assert jax.jit(read)(state, params)["blocks"].shape == (3,)
    with pytest.raises(ValueError, match=r"axes: the state holds 3 radii.*make 0"):
        jax.jit(radii)(state, params)


def test_a_reset_keeps_the_optimizer_and_what_the_state_was_made_with():
    made_with = {"radius_optimizer": optax.lion(1e-3), "initial_radius": 0.1}
    tx = with_ftp(optax.adam(0.1), **made_with)
    params, state = after(tx)
    expected = state[0], tx.init(params)[1]
    trees.assert_same(reset_anchor(state, params), expected)


def test_radii_of_tpgm_are_read_by_name_too():
    params = trees.random_tree(SHAPES, 0)
    moved = jax.tree.map(lambda p: p + 1.0, params)
    projector = tpgm(exclude="bias")
    state = projector.update(projector.init(params), moved, lambda p: p["kernel"].sum())
    assert radii(state, params) == dict(
        zip(("head", "kernel"), state.radii, strict=True)
    )


def test_no_row_of_a_leaf_without_rows_is_bound():
    params = {"kernel": jnp.zeros((3, 0))}
    tx = with_ftp(SGD)
    _, state = tx.update(params, tx.init(params), params)
    assert summary(state, params)["kernel"].bound == 0.0


# ---- What the anchor is reset to, and how far from it params may be -----------------


def test_a_reset_may_lack_excluded_leaves_and_nothing_else():
    params = trees.random_tree(SHAPES, 0)
    pretrained = {"kernel": 2.0 * params["kernel"]}
    state = reset_anchor(with_ftp(SGD, exclude="bias|head").init(params), pretrained)
    np.testing.assert_array_equal(state[1].anchor["kernel"], pretrained["kernel"])
    with pytest.raises(ValueError, match=r"params: .* a leaf 'bias'.*'kernel'"):
        reset_anchor(with_ftp(SGD).init(params), pretrained)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_a_reset_is_refused_where_the_anchor_would_be_rounded(jit):
    exact = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), exact)
    state = with_ftp(SGD).init(narrow)
    halves = jax.tree.map(lambda p: p / 2, exact)
    assert reset_anchor(state, halves)[1].anchor["kernel"].dtype == jnp.bfloat16
    reset = jax.jit(reset_anchor) if jit else reset_anchor
    with pytest.raises(ValueError, match=r"params: .*'bias' .*float32.*bfloat16"):
        reset(state, trees.random_tree(SHAPES, 0))


def test_params_a_hundredth_beyond_their_radius_are_not_where_they_may_be():
    params = {"kernel": jnp.zeros((4, 3))}
    still = optax.set_to_zero()
    tx = with_ftp(optax.sgd(1.0), initial_radius=0.1, radius_optimizer=still)
    updates, state = tx.update({"kernel": jnp.ones((4, 3))}, tx.init(params), params)
    check_anchor(state, updates)
    with pytest.raises(ValueError, match=r"'kernel' is up to 0.101 .* 0.1 is allowed"):
        check_anchor(state, {"kernel": 1.01 * updates["kernel"]})


def test_params_that_are_no_numbers_are_not_where_they_may_be():
    params = {"kernel": jnp.zeros((4, 3))}
    state = with_ftp(SGD).init(params)
    with pytest.raises(ValueError, match=r"the leaf 'kernel' is up to nan"):
        check_anchor(state, {"kernel": params["kernel"].at[1, 1].set(jnp.nan)})
