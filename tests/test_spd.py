"""Selective projection decay: when it acts, how far, and where nothing can be said."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
import relatives_reference as reference
import trees
from ftp_optax import LeafAxes, spd, with_spd

STEPS = 30
SCHEDULE = optax.linear_schedule(1.5, 0.2, 20)
NORMS = ("mars", "frobenius")
SGD, _ = layouts.OPTIMIZERS["sgd"]


@pytest.mark.parametrize(
    ("optimizer", "strength", "norm"),
    [
        ("sgd", 0.7, "frobenius"),
        ("adamw", SCHEDULE, "frobenius"),
        ("adamw", 1.0, "mars"),
        ("sgd", SCHEDULE, "mars"),
    ],
    ids=["sgd", "adamw, schedule", "adamw, mars", "sgd, schedule, mars"],
)
def test_every_step_agrees_with_the_reference(optimizer, strength, norm):
    base, make_base = layouts.OPTIMIZERS[optimizer]
    params = layouts.draw(0)
    references, _ = layouts.assert_agree(
        with_spd(base, strength, norm=norm, axes=layouts.AXES),
        lambda key, w: reference.SPD(w, make_base(), layouts.at(strength), norm),
        params,
        trees.gradients(params, STEPS),
        rtol=2e-5,
        atol=1e-5,
    )
    # It acted on every tensor, and not all the time.
    counts = [r.decayed for r in references.values()]
    assert min(counts) > 0
    assert max(counts) < STEPS / 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([1e-4, 0.1, 1.0, 10.0]),
    norm=st.sampled_from(NORMS),
    layers=st.booleans(),
)
def test_strength_1_returns_to_the_previous_distance_wherever_it_acts(
    seed, scale, norm, layers
):
    rng = np.random.default_rng(seed)
    w0, w, g = (jnp.asarray(rng.normal(size=(3, 2, 4)), jnp.float32) for _ in range(3))
    u = jnp.asarray(scale * rng.normal(size=(3, 2, 4)), jnp.float32)
    axes = LeafAxes(rows=2, layers=0 if layers else ())
    tx = spd(1.0, norm=norm, axes=axes)
    found, _ = tx.update(u, tx.init(w0), w, grad=g)
    split = list if layers else lambda x: [x]
    pieces = zip(*map(split, map(np.asarray, (w0, w, u, g, found))), strict=True)
    for w0_i, w_i, u_i, g_i, found_i in pieces:
        d, c, new = (
            np.float64(x).reshape(-1, 4).T
            for x in (w_i - w0_i, w_i + u_i - w0_i, w_i + found_i - w0_i)
        )
        before, meant, after = map(reference.NORMS[norm], (d, c, new))
        if np.sum(g_i * (w_i - w0_i)) > 0 and meant > before:
            assert after == pytest.approx(before, rel=2e-6)
        else:
            np.testing.assert_array_equal(found_i, u_i)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("w", "u"),
    [(0.0, 0.0), (0.0, 1.0), (1.0, -1.0), (1e-30, 0.0), (1e-30, 1e-30)],
    ids=["W = W~ = W0", "W = W0", "W~ = W0", "underflow", "underflow and a step"],
)
def test_where_the_ratio_would_be_0_by_0_the_step_is_passed_on(w, u, norm):
    params, step = (jax.tree.map(lambda x: jnp.full((2, 3), x), v) for v in (w, u))
    for g in (-1.0, 0.0, 1.0):
        tx = spd(1.0, norm=norm, anchor=0.0)
        found, _ = tx.update(step, tx.init(params), params, grad=jnp.full((2, 3), g))
        assert np.all(np.isfinite(found))
        if (w, u) != (1e-30, 1e-30):
            np.testing.assert_array_equal(found, step)


def test_a_link_without_grad_uses_the_reversed_updates_and_warns_once():
    params = layouts.draw(0)
    # Plain SGD cannot move outward and be called back by the same gradient.
    step = jax.tree.map(lambda p: 0.5 * p, params)
    tx = spd(1.0, anchor=0.0, axes=layouts.AXES)
    state = tx.init(params)
    with pytest.warns(UserWarning, match=r"spd\(\) was not given.*with_spd\(opt"):
        silent, _ = tx.update(step, state, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        updates, _ = tx.update(step, state, params)
    trees.assert_same(updates, silent)
    jax.tree.map(np.testing.assert_array_equal, updates, step)
    decayed, _ = tx.update(step, state, params, grad=params)
    trees.assert_close(decayed, jax.tree.map(jnp.zeros_like, step))
