"""FTP is a hyper-optimizer: its radii follow their own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trajectory
from ftp_optax import FTPState, LeafAxes, ftp, mars_pgm, with_ftp

# A radius optimizer that shows the hyper-gradient: gamma moves by minus `h`.
PLAIN = optax.sgd(1.0)


def loss(params):
    x = jnp.tanh(params["a"]["kernel"]) @ params["b"]
    return jnp.sum(jnp.sin(x) + 0.1 * x**2)


def pretrained(seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {"a": {"kernel": draw(4, 3)}, "b": draw(3)}


def rows_of(name):
    # Within a row: axis 0 of the kernel, the only axis of the vector.
    return (0,) if name == "a/kernel" else None


def project(anchor, displacement, gammas):
    """W0 + clip(gamma / n, 0, 1) C; outside (0, 1) the clip has no derivative."""

    def leaf(name, w0, c):
        axis = rows_of(name)
        n = jnp.sum(jnp.abs(c), axis=axis, keepdims=axis is not None) + 1e-8
        ratio = gammas[name] / n
        return w0 + jnp.where(ratio < 1.0, ratio, 1.0) * c

    return {
        "a": {
            "kernel": leaf(
                "a/kernel", anchor["a"]["kernel"], displacement["a"]["kernel"]
            )
        },
        "b": leaf("b", anchor["b"], displacement["b"]),
    }


def steps_of(tx, num_steps):
    """Yields the FTPState before and after each update."""
    params = pretrained()
    state = tx.init(params)
    update = jax.jit(tx.update)
    for _ in range(num_steps):
        before = state
        updates, state = update(jax.grad(loss)(params), state, params)
        yield params, before[1], state[1]
        params = optax.apply_updates(params, updates)


def autodiff(state: FTPState):
    names = ["a/kernel", "b"]
    gammas = dict(zip(names, state.radii, strict=True))
    return jax.grad(lambda r: loss(project(state.anchor, state.displacement, r)))(
        gammas
    )


def row_norms(state: FTPState):
    return {
        "a/kernel": np.abs(state.displacement["a"]["kernel"]).sum(0),
        "b": np.abs(state.displacement["b"]).sum(keepdims=True),
    }


def test_the_published_hypergradient_is_autodiffs_where_every_row_is_bound():
    # Radii driven by a constant 0 stay at 0.05, below every row of a large step.
    checked = 0
    frozen = optax.set_to_zero()
    tx = with_ftp(optax.sgd(0.5), radius_optimizer=frozen, initial_radius=0.05)
    probe = with_ftp(optax.sgd(0.5), radius_optimizer=PLAIN, initial_radius=0.05)
    for params, before, _ in steps_of(tx, 6):
        bound = all((n > 0.05).all() for n in row_norms(before).values())
        if not bound:
            continue
        grads = jax.grad(loss)(params)
        state = (
            probe.init(params)[0],
            before._replace(radius_state=probe.init(params)[1].radius_state),
        )
        _, (_, after) = probe.update(grads, state, params)
        h = before.radii - after.radii
        expected = autodiff(before)
        n_max = [float(n.max()) for n in row_norms(after).values()]
        for i, name in enumerate(expected):
            if 1e-8 < after.radii[i] < n_max[i]:  # not cut short by the clip
                np.testing.assert_allclose(h[i], expected[name], rtol=1e-4, atol=1e-6)
                checked += 1
    assert checked >= 4


@pytest.mark.parametrize("initial_radius", [0.02, 0.3, 0.8])
def test_the_active_hypergradient_is_always_autodiffs(initial_radius):
    checked = unbound = 0
    tx = with_ftp(
        optax.sgd(0.2),
        radius_optimizer=optax.sgd(1e-3),
        initial_radius=initial_radius,
        hypergradient="active",
    )
    for _, before, after in steps_of(tx, 12):
        h = (before.radii - after.radii) / 1e-3
        expected = autodiff(before)
        n = row_norms(after)
        for i, name in enumerate(expected):
            gamma = float(before.radii[i])
            rows = row_norms(before)[name]
            clipped = not 1e-8 < float(after.radii[i]) < float(n[name].max())
            tied = np.isclose(rows, gamma, rtol=1e-5).any()
            if clipped or tied:
                continue
            np.testing.assert_allclose(h[i], expected[name], rtol=5e-3, atol=1e-3)
            checked += 1
            unbound += int((rows < gamma).any())
    assert checked >= 5
    if initial_radius == 0.3:
        assert unbound >= 1  # rows within the radius were among those checked


def test_published_and_active_differ_once_a_row_is_unbound():
    params = {"kernel": jnp.zeros((2, 2))}
    grads = [{"kernel": jnp.asarray([[1.0, 0.1], [1.0, 0.1]])}] * 3
    make = lambda kind: with_ftp(
        optax.sgd(0.1),
        radius_optimizer=optax.sgd(1e-2),
        initial_radius=0.05,
        hypergradient=kind,
    )
    _, published = trajectory.run(make("published"), params, grads)
    _, active = trajectory.run(make("active"), params, grads)
    # Row 1 moved 0.02 of the 0.05 it may: only the published sum counts it.
    np.testing.assert_allclose(published[1]["kernel"], 0.05 + 1e-2 * (1.0 + 0.1), 1e-5)
    np.testing.assert_allclose(active[1]["kernel"], 0.05 + 1e-2 * 1.0, 1e-5)


def test_the_published_form_is_the_default():
    params = trajectory.random_tree({"kernel": (3, 4)}, seed=0)
    grads = trajectory.gradients(params, 10)
    default = trajectory.run(with_ftp(optax.adamw(0.1)), params, grads)
    stated = trajectory.run(
        with_ftp(optax.adamw(0.1), hypergradient="published"), params, grads
    )
    jax.tree.map(np.testing.assert_array_equal, default, stated)


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
    params = trajectory.random_tree({"a": (4, 3), "b": (5,)}, seed=1)
    grads = trajectory.gradients(params, 12)
    ours, our_radii = trajectory.run(
        with_ftp(optax.sgd(0.05), kappa, radius_optimizer=radius_optimizer),
        params,
        grads,
    )

    sum_within = {"a": lambda x: x.sum(0), "b": lambda x: x.sum(keepdims=True)}
    w = {k: np.asarray(v) for k, v in params.items()}
    w0, c_prev = dict(w), {k: np.zeros_like(v) for k, v in w.items()}
    gamma = jnp.full((2,), eps, jnp.float32)
    radius_state = radius_optimizer.init(gamma)
    for t, g in enumerate(grads):
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
        for i, k in enumerate(w):
            np.testing.assert_allclose(our_radii[t][k], gamma[i], rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(ours[t][k], w[k], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    "radius_optimizer",
    [PLAIN, None, optax.lion(1e-3, weight_decay=0.0)],
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
    tx = ftp(radius_optimizer=PLAIN, initial_radius=0.05)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(step, state, params, grad=back)
    np.testing.assert_array_equal(state.radii, np.float32(1e-8))


def test_the_frobenius_norm_is_that_of_the_whole_leaf():
    params = trajectory.random_tree({"kernel": (3, 4), "stack": (2, 3, 4)}, seed=2)
    axes = {"kernel": LeafAxes(rows=1), "stack": LeafAxes(rows=2, layers=0)}
    tx = with_ftp(
        optax.sgd(0.1),
        norm="frobenius",
        axes=axes,
        radius_optimizer=optax.set_to_zero(),
        initial_radius=0.05,
    )
    grads = trajectory.gradients(params, 1)
    (after,), _ = trajectory.run(tx, params, grads, axes)
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
