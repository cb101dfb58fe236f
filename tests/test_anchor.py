"""The anchor: where it comes from, that it is a copy, and in which dtype it is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trees
from ftp_optax import check_anchor, ftp, reset_anchor, with_ftp

SHAPES = {"kernel": (4, 3), "bias": (3,)}
SGD = optax.sgd(0.1)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_init_copies_and_never_aliases(jit):
    params = trees.random_tree(SHAPES, 0)
    tx = with_ftp(optax.adamw(0.1), initial_radius=0.0)
    state = (jax.jit(tx.init) if jit else tx.init)(params)
    arrays = jax.tree.leaves((params, state))
    pointers = [x.unsafe_buffer_pointer() for x in arrays]
    assert len(set(pointers)) == len(pointers)


def test_a_number_is_the_anchor_of_every_weight():
    state = with_ftp(SGD, anchor=0.5).init(trees.random_tree(SHAPES))
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(state[1].anchor[name], np.full(shape, 0.5))


def test_adapters_anchored_at_zero_stay_within_their_radius_of_zero():
    params = trees.random_tree({"lora_a": (6, 2)}, 0)
    params["lora_b"] = jnp.zeros((2, 5))
    tx = with_ftp(optax.adamw(0.05), anchor=0.0, exclude="lora_a")
    for p, (_, state) in trees.steps(tx, params, trees.gradients(params, 10)):
        rows = np.abs(p["lora_b"]).sum(axis=0)
        assert (rows <= state.radii * (1 + 1e-5)).all()
    assert state.radii > 0.01


def test_other_weights_become_the_anchor_as_a_copy_by_a_reset():
    params = trees.random_tree(SHAPES, 0)
    pretrained = trees.random_tree(SHAPES, 1)
    tx = with_ftp(SGD)
    state = reset_anchor(tx.init(params), pretrained)
    anchor = state[1].anchor["kernel"]
    assert (
        anchor.unsafe_buffer_pointer() != pretrained["kernel"].unsafe_buffer_pointer()
    )
    updates, _ = tx.update(trees.random_tree(SHAPES, 2), state, params)
    moved = optax.apply_updates(params, updates)
    for name in SHAPES:  # the first step goes to the anchor, wherever it is
        np.testing.assert_allclose(moved[name], pretrained[name], rtol=0, atol=1e-6)


def test_a_reset_may_lack_excluded_leaves_and_nothing_else():
    params = trees.random_tree(SHAPES, 0)
    pretrained = {"kernel": 2.0 * params["kernel"]}
    state = reset_anchor(with_ftp(SGD, exclude="bias").init(params), pretrained)
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


def test_the_arithmetic_is_at_least_float32():
    params = {"kernel": jnp.ones((300, 4), jnp.float16)}
    state = ftp().init(params)
    assert state.displacement["kernel"].dtype == jnp.float32
    assert state.anchor["kernel"].dtype == jnp.float16
