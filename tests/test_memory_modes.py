"""What the state takes up in each mode, and what the modes that save memory give up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trees
from ftp_optax import (
    anchor_drift,
    ftp,
    radii,
    reset_anchor,
    summary,
    with_ftp,
)

SHAPES = {"dense": (64, 96), "conv/kernel": (3, 3, 8, 32), "bias": (96,)}
MODES = {
    "explicit": {},
    "implicit": {"anchor": "implicit"},
    "int8": {"displacement_dtype": "int8"},
    "host": {"anchor_memory": "pinned_host"},
    "int8, host": {"displacement_dtype": "int8", "anchor_memory": "pinned_host"},
}


def pretrained():
    return jax.tree.map(lambda w: 0.1 * w, trees.random_tree(SHAPES))


@functools.cache
def run(mode, steps, learning_rate=1e-2):
    params = pretrained()
    tx = with_ftp(optax.adamw(learning_rate), **MODES[mode])
    return trees.feed(tx, params, trees.gradients(params, steps))


def copies_kept(mode, on_host):
    """Bytes of the state of `ftp`, in copies of the params."""
    params = pretrained()
    state = jax.tree.leaves(ftp(**MODES[mode]).init(params))
    kept = [x for x in state if (x.sharding.memory_kind == "pinned_host") == on_host]
    total = sum(x.nbytes for x in kept)
    return total / sum(w.nbytes for w in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("mode", "device", "host"),
    [
        ("explicit", 2.0, 0.0),
        ("implicit", 1.0, 0.0),
        ("int8", 1.25, 0.0),
        ("host", 1.0, 1.0),
        ("int8, host", 0.25, 1.0),
    ],
)
def test_the_state_takes_up_so_many_copies_of_the_params(mode, device, host):
    # The radii and their moments are the rest.
    assert device <= copies_kept(mode, on_host=False) < device + 0.01
    assert host <= copies_kept(mode, on_host=True) < host + 0.01


@pytest.mark.parametrize("mode", MODES)
def test_radii_norms_and_bound_rows_are_read_in_every_mode(mode):
    params, state = run(mode, 40, 1e-4)
    other, other_state = run("explicit", 40, 1e-4)
    expected = summary(other_state, other)
    for name, leaf in summary(state, params).items():
        np.testing.assert_allclose(leaf.radius, radii(state, params)[name])
        np.testing.assert_allclose(leaf.norm, expected[name].norm, rtol=2e-3)
        np.testing.assert_allclose(leaf.bound, expected[name].bound, atol=0.05)
    assert expected["bias"].bound == 1
    assert 0 < expected["dense"].bound < 1


@pytest.mark.parametrize("mode", MODES)
def test_a_reset_anchor_is_where_the_next_run_begins(mode):
    params, state = run(mode, 10)
    tx = with_ftp(optax.adamw(1e-2), **MODES[mode])
    state = reset_anchor(state, params)
    assert max(map(float, anchor_drift(state, params, params).values())) == 0
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(state[1].anchor)}
    assert kinds <= {"pinned_host" if "host" in mode else "device"}
    (g,) = trees.gradients(params, 1)
    updates, _ = tx.update(g, state, params)
    moved = optax.apply_updates(params, updates)
    for name, w in params.items():
        np.testing.assert_allclose(moved[name], w, rtol=0, atol=1e-7)


def test_an_implicit_anchor_stays_near_every_weight_for_20_000_steps():
    # Within 1e-5 of weights below 1, and of larger ones in proportion.
    ones = {"scale": jnp.ones(256), "large": jnp.full(256, 4.0)}
    params = pretrained() | ones
    tx = with_ftp(optax.adamw(1e-4), anchor="implicit")
    pull = trees.random_tree({k: w.shape for k, w in params.items()}, 1)

    def step(carry, i):
        params, state = carry
        keys = jax.random.split(jax.random.key(i), len(params))
        sign = jnp.where(i % 5000 < 3000, 1.0, -1.0)
        g = {
            name: sign * pull[name] + 3.0 * jax.random.normal(key, w.shape)
            for key, (name, w) in zip(keys, params.items(), strict=True)
        }
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = params, tx.init(params)
    (trained, state), _ = jax.lax.scan(step, start, jnp.arange(20_000))
    drift = anchor_drift(state, trained, params)
    assert max(float(drift[name]) for name in SHAPES) < 1e-5
    assert float(drift["scale"]) < 3e-5
    assert float(drift["large"]) < 1e-4
    assert min(float(r) for r in radii(state, trained).values()) > 0.1


def test_drift_shows_that_something_else_moved_the_params():
    params, state = run("implicit", 10)
    moved = jax.tree.map(lambda w: 0.99 * w, params)
    assert max(map(float, anchor_drift(state, moved, pretrained()).values())) > 1e-3


def test_an_int8_row_keeps_its_direction_and_rows_of_zeros_stay_zero():
    params = {"kernel": jnp.zeros((16, 3))}
    tx = ftp(displacement_dtype="int8")
    rng = np.random.default_rng(0)
    step = rng.normal(size=(16, 3)) * [1e-6, 0.0, 1e3]
    step_tree = {"kernel": jnp.asarray(step)}
    _, state = tx.update(step_tree, tx.init(params), params, grad=params)
    kept = np.asarray(state.displacement["kernel"])
    assert kept.dtype == np.int8
    for row in (0, 2):
        unit = np.abs(step[:, row]).max() / 127
        np.testing.assert_allclose(kept[:, row] * unit, step[:, row], atol=0.51 * unit)
    np.testing.assert_array_equal(kept[:, 1], 0)
