"""Directional gradient projection: the geometry it claims, and the learned strength."""

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
from ftp_optax import digrap

STEPS = 30
SGD = optax.sgd(0.1)
SHAPES = {"kernel": (4, 3), "bias": (3,)}


@pytest.mark.parametrize(
    ("optimizer", "omega"),
    [("sgd", 0.0), ("adamw", 0.0), ("adamw", 0.7)],
)
def test_every_step_agrees_with_the_reference(optimizer, omega):
    base, make_base = layouts.OPTIMIZERS[optimizer]
    # Gradients that turn often, around a place away from the anchor: only then is it
    # right to have projected.
    pretrained = layouts.draw(2)
    anchors = layouts.matrices(pretrained)
    link = digrap(initial_omega=omega, axes=layouts.AXES)
    references, state = layouts.assert_agree(
        optax.chain(link, base),
        lambda key, w: reference.DiGraP(anchors[key], make_base(), omega),
        layouts.draw(0),
        trees.gradients(pretrained, STEPS, pull=0.1),
        rtol=5e-5,
        atol=5e-5,
        pretrained=pretrained,
    )
    # In tree order: the names sorted, layers within them.
    by_hand = [references[key].omega for key in sorted(references)]
    np.testing.assert_allclose(state[0].omega, by_hand, rtol=1e-3, atol=1e-6)
    assert np.ptp(by_hand) > 0.05


def inner(a, b):
    return float(np.sum(np.float64(a) * np.float64(b)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-5, 1e-2, 1.0, 1e3]))
def test_omega_1_leaves_descent_no_component_away_from_the_anchor(seed, scale):
    rng = np.random.default_rng(seed)
    d, g = (rng.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
    d *= np.float32(scale)
    tx = digrap(anchor=0.0, initial_omega=1.0, omega_optimizer=optax.set_to_zero())
    new = np.asarray(tx.update(jnp.asarray(g), tx.init(d), jnp.asarray(d))[0])
    length = np.linalg.norm(d)
    rounding = 1e-6 * np.linalg.norm(g) * length
    assert inner(new, d) >= -rounding
    if inner(g, d) >= 0:
        np.testing.assert_array_equal(new, g)
    else:
        # All of the component along D, and nothing else.
        expected = np.float64(g) - inner(g, d) / inner(d, d) * np.float64(d)
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-5)
        assert abs(inner(new, d)) <= rounding
        # The distance grows by the second order of the step alone.
        before, after = np.linalg.norm(d), np.linalg.norm(d - 1e-3 * length * new)
        assert after <= before * (1 + 1e-5 + (1e-3 * np.linalg.norm(g)) ** 2)


@pytest.mark.parametrize("d", [0.0, 1e-30, -1e-25])
def test_at_the_anchor_the_gradient_is_finite_and_passes(d):
    params, grads = jnp.full((2, 3), d), jnp.full((2, 3), -1.0)
    tx = digrap(anchor=0.0, initial_omega=1.0)
    updates, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates, grads, rtol=1e-6)
    assert np.all(np.isfinite(state.projection))
    assert np.all(np.isfinite(state.omega))


def test_a_gradient_that_a_later_link_handles_leaves_omega_finite():
    link = digrap(anchor=0.0, initial_omega=0.5)
    tx = optax.chain(link, optax.zero_nans(), optax.sgd(0.1))
    params, away = jnp.ones((2, 3)), jnp.full((2, 3), -1.0)
    state = tx.init(params)
    for broken in (False, True, False, False):
        grads = away.at[0, 0].set(jnp.nan) if broken else away
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert np.all(np.isfinite(params))
    assert 0.0 < float(state[0].omega[0]) <= 1.0
    assert np.all(updates != 0.0)


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_omega_stays_between_0_and_1(rate):
    params = layouts.draw(0)
    tx = optax.chain(
        digrap(anchor=0.0, axes=layouts.AXES, omega_optimizer=optax.adam(rate)), SGD
    )
    grads = trees.gradients(params, 40, pull=0.1)
    omegas = [s[0].omega for _, s in trees.steps(tx, params, grads)]
    assert np.min(omegas) == 0.0
    assert np.max(omegas) == 1.0
    assert np.any((np.asarray(omegas) > 0) & (np.asarray(omegas) < 1))


def test_the_hyper_gradient_has_the_sign_of_the_derivative_through_the_last_step():
    # The loss after a step of SGD is a function of omega. Its derivative, over the
    # learning rate, is what trains omega: SGD at rate 1 shows it.
    pretrained = trees.random_tree(SHAPES, 0)
    target = trees.random_tree(SHAPES, 1)
    before = jax.tree.map(lambda w, t: w + 0.3 * (t - w), pretrained, target)
    signs = set()

    def loss(p):
        # Steep along one axis: the second gradient may point back.
        square = lambda w, t: jnp.sum(
            jnp.asarray([0.2, 1.0, 4.0]) * ((w - t).reshape(-1, 3) ** 2).sum(0)
        )
        return sum(jax.tree.leaves(jax.tree.map(square, p, target)))

    tx = digrap(initial_omega=0.5, omega_optimizer=optax.sgd(1e-3))
    step = jax.jit(tx.update)
    for seed, rate in enumerate([0.05, 0.6] * 2):
        start = jax.tree.map(
            lambda w, noise: w + 0.2 * noise,
            before,
            trees.random_tree(SHAPES, seed),
        )
        g = jax.grad(loss)(start)
        updates, state = step(g, tx.init(pretrained), start)
        after = jax.tree.map(lambda w, u, rate=rate: w - rate * u, start, updates)
        _, state_2 = step(jax.grad(loss)(after), state, after)
        h = (0.5 - np.asarray(state_2.omega)) / 1e-3

        def after_step(omega, start=start, g=g, state=state, rate=rate):
            shares = dict(zip(sorted(SHAPES), omega, strict=True))
            return loss(
                {
                    name: w - rate * (g[name] - shares[name] * state.projection[name])
                    for name, w in start.items()
                }
            )

        derivative = jax.grad(after_step)(jnp.asarray([0.5, 0.5]))
        np.testing.assert_allclose(h, derivative / rate, rtol=2e-3, atol=2e-3)
        signs |= set(np.sign(derivative))
    assert {-1.0, 1.0} <= signs
