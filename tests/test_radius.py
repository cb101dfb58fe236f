"""FTP is a hyper-optimizer: its radii follow their own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import layouts
import numpy_reference as reference
import trees
from ftp_optax import ftp, mars_pgm, with_ftp

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


class Util:
    """A transformation of optax for one radius, which the first step does not train."""

    def __init__(self, optimizer):
        self.update = jax.jit(optimizer.update)
        _, self.state = self.update(0.0, optimizer.init(0.0), 0.0)

    def __call__(self, gamma, gradient, t):
        del t
        step, self.state = self.update(gradient, self.state, gamma)
        return gamma + float(step)


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
    references, state = layouts.assert_agree(
        with_ftp(optax.sgd(0.05), 0.5, radius_optimizer=make(), axes=layouts.AXES),
        lambda key, w: reference.WithFTP(
            reference.SGD(0.05),
            reference.FastTrainableProjection(w, 0.5, adam_util=Util(make())),
        ),
        layouts.draw(1),
        trees.gradients(layouts.draw(1), 12),
        atol=1e-5,
    )
    by_hand = [references[key].method.gamma for key in sorted(references)]
    np.testing.assert_allclose(state[1].radii, by_hand, rtol=1e-4, atol=1e-7)


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


def test_the_frobenius_norm_has_a_derivative_at_the_anchor():
    params = {"kernel": jnp.ones((3, 4))}
    tx = mars_pgm(1.0, norm="frobenius")
    state = tx.init(params)
    still = jax.tree.map(jnp.zeros_like, params)

    def moved(step):
        return tx.update(step, state, params)[0]["kernel"].sum()

    # Within the radius the projection is the identity.
    np.testing.assert_allclose(jax.grad(moved)(still)["kernel"], 1.0, rtol=1e-6)


# ---- What radii are kept from: for how long, and from what size on ------------------


def radius_after(sizes):
    """The radius of a leaf, trained at 1e-3 by gradients of one sign and these sizes.

    The first finds the leaf at its anchor and moves no radius.
    """
    tx = ftp(radius_optimizer=optax.sgd(1e-3), initial_radius=0.05)
    params, step = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}

    def update(state, size):
        grad = {"w": jnp.full(2, -size)}
        return tx.update(step, state, params, grad=grad)[1], None

    state, _ = jax.lax.scan(update, tx.init(params), jnp.asarray(sizes, jnp.float32))
    return float(state.radii[0])


def grown(by):
    return pytest.approx(0.05 + 1e-3 * by, rel=1e-4)


def test_a_spike_is_one_beside_the_largest_of_late():
    assert radius_after([1.0, 1.0, 1e-3, 50.0]) == grown(51.001)
    assert radius_after([1.0, 1.0, 1e-3, 150.0]) == grown(1.001)


def test_the_largest_is_forgotten_over_a_thousand_steps():
    assert radius_after([1.0, 1.0, *[1e-3] * 1000, 50.0]) == grown(2.0)


@pytest.mark.parametrize("size", [np.nan, np.inf, 1e25])
def test_what_is_no_number_of_use_is_forgotten_at_once(size):
    assert radius_after([1.0, size, 1.0, 1e6]) == grown(1.0)
    assert radius_after([1.0, 1.0, size, 1e6]) == grown(1.0)
    assert radius_after([1.0, 1.0, size, 50.0]) == grown(51.0)
