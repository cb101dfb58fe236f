"""FTP is a hyper-optimizer: its radii follow their own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trees
from ftp_optax import LeafAxes, ftp, mars_pgm, with_ftp

SHAPES = {"a": (4, 3), "b": (3,)}


def loss(params):
    x = jnp.tanh(params["a"]) @ params["b"]
    return jnp.sum(jnp.sin(x) + 0.1 * x**2)


def norms(displacement):
    """Of the columns of the kernel, and of the vector."""
    return {k: jnp.abs(c).sum(axis=0, keepdims=True) for k, c in displacement.items()}


def loss_within(radii, state):
    """At W0 + clip(gamma / n, 0, 1) C; outside (0, 1) the clip has no derivative."""
    ratios = jax.tree.map(
        lambda gamma, n: gamma / (n + 1e-8), radii, norms(state.displacement)
    )
    return loss(
        {
            k: state.anchor[k] + jnp.where(ratio < 1.0, ratio, 1.0) * c
            for (k, c), ratio in zip(
                state.displacement.items(), ratios.values(), strict=True
            )
        }
    )


@pytest.mark.parametrize(
    ("hypergradient", "initial_radius"),
    [("published", 0.02), ("active", 0.02), ("active", 0.3), ("active", 0.8)],
)
def test_the_hypergradient_is_always_autodiffs_if_its_rows_are_the_active_ones(
    hypergradient, initial_radius
):
    tx = with_ftp(
        optax.sgd(0.2),
        radius_optimizer=optax.sgd(1e-3),
        initial_radius=initial_radius,
        hypergradient=hypergradient,
    )
    params = trees.random_tree(SHAPES)
    state, checked, unbound = tx.init(params), 0, 0
    update = jax.jit(tx.update)
    for _ in range(12):
        before = state[1]
        updates, state = update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        radii = dict(zip(SHAPES, before.radii, strict=True))
        expected = jax.grad(loss_within)(radii, before)
        largest = [float(n.max()) for n in norms(state[1].displacement).values()]
        for i, name in enumerate(SHAPES):
            rows, after = norms(before.displacement)[name], float(state[1].radii[i])
            # Not cut short by the clip, nor where the derivative jumps.
            clipped = not 1e-8 < after < largest[i]
            tied = bool(np.isclose(rows, radii[name], rtol=1e-5).any())
            within = bool((rows < radii[name]).any())
            if clipped or tied or (within and hypergradient == "published"):
                continue
            h = (float(radii[name]) - after) / 1e-3
            np.testing.assert_allclose(h, expected[name], rtol=5e-3, atol=1e-3)
            checked += 1
            unbound += within
    assert checked >= 5
    assert unbound >= (initial_radius == 0.3)


def test_published_and_active_differ_once_a_row_is_unbound():
    params = {"kernel": jnp.zeros((2, 2))}
    grads = [{"kernel": jnp.asarray([[1.0, 0.1], [1.0, 0.1]])}] * 2
    make = lambda kind: with_ftp(
        optax.sgd(0.1),
        radius_optimizer=optax.sgd(1e-2),
        initial_radius=0.05,
        hypergradient=kind,
    )
    radius = lambda kind: trees.feed(make(kind), params, grads)[1][1].radii[0]
    # Row 1 moved 0.02 of the 0.05 it may: only the published sum counts it.
    np.testing.assert_allclose(radius("published"), 0.05 + 1e-2 * (1.0 + 0.1), 1e-5)
    np.testing.assert_allclose(radius("active"), 0.05 + 1e-2 * 1.0, 1e-5)


def test_the_published_form_is_the_default():
    params = trees.random_tree({"kernel": (3, 4)})
    grads = trees.gradients(params, 10)
    stated = with_ftp(optax.adamw(0.1), hypergradient="published")
    default = trees.feed(with_ftp(optax.adamw(0.1)), params, grads)
    trees.assert_same(default, trees.feed(stated, params, grads))


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.sgd(1e-2),
        lambda: optax.sgd(optax.linear_schedule(1e-2, 1e-3, 10)),
        lambda: optax.lion(1e-3),
        lambda: optax.adam(optax.exponential_decay(1e-2, 5, 0.5)),
        lambda: optax.chain(optax.clip(0.1), optax.adam(1e-2)),
    ],
    ids=["sgd", "sgd schedule", "lion", "adam schedule", "clipped adam"],
)
def test_any_optax_transformation_trains_the_radii(make):
    """A loop over the definition, with the radii in a vector of their own."""
    radius_optimizer = make()
    kappa, eps = 0.5, 1e-8
    params = trees.random_tree({"a": (4, 3), "b": (5,)}, seed=1)
    grads = trees.gradients(params, 12)
    tx = with_ftp(optax.sgd(0.05), kappa, radius_optimizer=radius_optimizer)
    ours = trees.steps(tx, params, grads)

    sum_within = {"a": lambda x: x.sum(0), "b": lambda x: x.sum(keepdims=True)}
    w = {k: np.asarray(v) for k, v in params.items()}
    w0, c_prev = dict(w), {k: np.zeros_like(v) for k, v in w.items()}
    gamma = jnp.full((2,), eps, jnp.float32)
    radius_state = radius_optimizer.init(gamma)
    for g, (ours_now, state) in zip(grads, ours, strict=True):
        n_prev = {k: sum_within[k](np.abs(c)) + eps for k, c in c_prev.items()}
        h = [float((sum_within[k](g[k] * c_prev[k]) / n_prev[k]).sum()) for k in w]
        h = jnp.asarray([kappa * x if x > 0 else x for x in h], jnp.float32)
        c = {k: w[k] - 0.05 * np.asarray(g[k]) - w0[k] for k in w}
        n = {k: sum_within[k](np.abs(x)) + eps for k, x in c.items()}
        step, radius_state = radius_optimizer.update(h, radius_state, gamma)
        gamma = jnp.clip(gamma + step, eps, jnp.stack([x.max() for x in n.values()]))
        for i, k in enumerate(w):
            w[k] = w0[k] + np.clip(float(gamma[i]) / n[k], 0, 1) * c[k]
        c_prev = c
        for k in w:
            np.testing.assert_allclose(ours_now[k], w[k], rtol=0, atol=1e-5)
        np.testing.assert_allclose(state[1].radii, gamma, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    "radius_optimizer",
    [optax.sgd(1.0), None, optax.lion(1e-3, weight_decay=0.0)],
    ids=["sgd", "adam", "lion"],
)
def test_at_kappa_zero_no_positive_hypergradient_counts(radius_optimizer, scale):
    # The steps lead away from the anchor while the gradient calls them back.
    params = {"w": jnp.zeros((6,))}
    steps, grad = {"w": 0.01 * jnp.ones(6)}, {"w": scale * jnp.ones(6)}
    tx = ftp(0.0, radius_optimizer=radius_optimizer, initial_radius=1e-4)
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(steps, state, params, grad=grad)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(state.radii, np.float32(1e-4))


def test_kappa_scales_positive_hypergradients_and_no_others():
    params = {"w": jnp.zeros((2,))}
    away, back = {"w": -jnp.ones(2)}, {"w": jnp.ones(2)}
    step = {"w": jnp.ones(2)}
    # The step stays as it was (a link takes it as given), only the gradient turns.
    for kappa in (0.0, 0.25, 1.0):
        tx = ftp(kappa, radius_optimizer=optax.sgd(1e-3), initial_radius=0.05)
        state = tx.init(params)
        _, state = tx.update(step, state, params, grad=away)
        _, shrunk = tx.update(step, state, params, grad=back)
        _, grown = tx.update(step, state, params, grad=away)
        # <g, C> / n is the mean of g's signs here: 1, or -1.
        np.testing.assert_allclose(shrunk.radii, 0.05 - 1e-3 * kappa, rtol=1e-5)
        np.testing.assert_allclose(grown.radii, 0.05 + 1e-3, rtol=1e-5)


def test_a_radius_that_would_fall_below_0_stays_at_1e_8():
    params, step = {"w": jnp.zeros((2,))}, {"w": jnp.ones((2,))}
    back = {"w": 3.0 * jnp.ones((2,))}
    tx = ftp(radius_optimizer=optax.sgd(1.0), initial_radius=0.05)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(step, state, params, grad=back)
    np.testing.assert_array_equal(state.radii, np.float32(1e-8))


def test_the_frobenius_norm_is_that_of_the_whole_leaf():
    params = trees.random_tree({"kernel": (3, 4), "stack": (2, 3, 4)}, seed=2)
    axes = {"kernel": LeafAxes(rows=1), "stack": LeafAxes(rows=2, layers=0)}
    tx = with_ftp(
        optax.sgd(0.1),
        norm="frobenius",
        axes=axes,
        radius_optimizer=optax.set_to_zero(),
        initial_radius=0.05,
    )
    grads = trees.gradients(params, 1)
    after, _ = trees.feed(tx, params, grads)
    for name, index in (("kernel", ...), ("stack", 0), ("stack", 1)):
        moved = (after[name] - params[name])[index]
        step = -0.1 * grads[0][name][index]
        np.testing.assert_allclose(jnp.linalg.norm(moved), 0.05, rtol=1e-5)
        expected = 0.05 * step / jnp.linalg.norm(step)
        np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-6)


def test_the_frobenius_norm_has_a_derivative_at_the_anchor():
    params = {"kernel": jnp.ones((3, 4))}
    tx = mars_pgm(1.0, norm="frobenius")
    state = tx.init(params)
    still = jax.tree.map(jnp.zeros_like, params)

    def moved(step):
        return tx.update(step, state, params)[0]["kernel"].sum()

    # Within the radius the projection is the identity.
    np.testing.assert_allclose(jax.grad(moved)(still)["kernel"], 1.0, rtol=1e-6)
