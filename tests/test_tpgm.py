"""TPGM: radii trained on held-out data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import layouts
import relatives_reference as reference
import trees
from ftp_optax import TPGMState, tpgm

each_norm = pytest.mark.parametrize("norm", ["mars", "frobenius"])
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def quadratic(target):
    """A loss with its least value at `target`, and its gradient by matrix of rows."""

    def loss(p):
        squares = jax.tree.map(lambda w, t: jnp.sum((w - t) ** 2), p, target)
        return 0.5 * sum(jax.tree.leaves(squares))

    wanted = layouts.matrices(target)
    return loss, lambda key, w: w - wanted[key]


def between(a, b, share):
    return jax.tree.map(lambda x, y: (1 - share) * x + share * y, a, b)


@each_norm
def test_radii_and_params_agree_with_the_reference(norm):
    pretrained, params = layouts.draw(0), layouts.draw(1)
    method = tpgm(norm=norm, axes=layouts.AXES)
    state = method.init(pretrained)
    # The best radius lies outside at first, then inside; the params move meanwhile.
    losses = [quadratic(between(pretrained, params, s)) for s in (0.7, 0.1)]
    keys = sorted(layouts.matrices(params))
    refs = {k: reference.TPGM(w, norm) for k, w in layouts.matrices(pretrained).items()}
    updates = [jax.jit(lambda s, p, f=f: method.update(s, p, f)) for f, _ in losses]
    project = jax.jit(method.project)
    for t, step in enumerate(trees.gradients(params, 24, pull=0.0)):
        update, (_, gradient) = updates[t // 12], losses[t // 12]
        params = jax.tree.map(lambda w, g: w + 0.02 * g, params, step)
        state = update(state, params)
        for key, w in layouts.matrices(params).items():
            refs[key].update(w, gradient(key, refs[key].project(w)))
        by_hand = [refs[key].gamma for key in keys]
        np.testing.assert_allclose(state.radii, by_hand, rtol=1e-4, atol=1e-6)
        weights = layouts.matrices(params)
        projected = project(params, state)
        for key, w in layouts.matrices(projected).items():
            expected = refs[key].project(weights[key])
            np.testing.assert_allclose(w, expected, rtol=1e-5, atol=2e-5)


def with_radii(method, pretrained, radii):
    return method.init(pretrained)._replace(radii=jnp.asarray(radii, jnp.float32))


@each_norm
def test_a_radius_follows_the_derivative_of_the_held_out_loss(norm):
    pretrained, params = layouts.draw(0), layouts.draw(1)
    loss, _ = quadratic(between(pretrained, params, 0.3))
    method = tpgm(norm=norm, axes=layouts.AXES, radius_optimizer=optax.sgd(1e-3))
    update = jax.jit(lambda state: method.update(state, params, loss))
    state = update(update(method.init(pretrained)))

    def held_out(radii):
        return loss(method.project(params, state._replace(radii=radii)))

    stepped = update(state)
    found = (state.radii - stepped.radii) / 1e-3
    derivative = jax.jit(jax.grad(held_out))(state.radii)
    np.testing.assert_allclose(found, derivative, rtol=1e-3, atol=1e-3)
    assert np.min(np.abs(derivative)) > 1e-2


def test_rows_within_the_radius_give_it_no_gradient():
    pretrained = jnp.zeros((2, 3))
    params = jnp.asarray([[0.1, 1.0, 2.0], [0.1, 1.0, 2.0]])  # rows of 0.2, 2 and 4
    method = tpgm(radius_optimizer=optax.sgd(1.0))
    # A row just at its radius is within it.
    for radius, column, expected in ((3, 0, 0), (3, 1, 0), (3, 2, 1), (4, 2, 0)):
        state = with_radii(method, pretrained, [radius])
        loss = lambda p, column=column: -p[:, column].sum()
        stepped = method.update(state, params, loss)
        assert float(stepped.radii[0]) - radius == pytest.approx(expected, abs=1e-6)


def test_a_radius_is_kept_between_1e_8_and_the_largest_row():
    pretrained, params = jnp.zeros((2, 2)), jnp.asarray([[1.0, 2.0], [1.0, 2.0]])
    for pull, expected in ((1.0, 1e-8), (-1.0, 4.0)):
        method = tpgm(radius_optimizer=optax.sgd(100.0))
        state = method.init(pretrained)
        loss = lambda p, pull=pull: pull * p.sum()
        state = method.update(state, params, loss)
        # What Adam overshot is clipped where it is next used.
        projected = method.project(params, state)
        rows = np.abs(np.asarray(projected)).sum(axis=0)
        np.testing.assert_allclose(rows.max(), expected, rtol=1e-6)
        still = tpgm(radius_optimizer=optax.set_to_zero())
        clipped = still.update(
            state._replace(radius_state=still.init(pretrained).radius_state),
            params,
            loss,
        )
        np.testing.assert_allclose(clipped.radii, [expected], rtol=1e-6)


@each_norm
def test_params_at_the_anchor_stay_there_and_stay_finite(norm):
    params = layouts.draw(0)
    loss, _ = quadratic(layouts.draw(1))
    method = tpgm(norm=norm, axes=layouts.AXES)
    state = method.init(params)
    update = jax.jit(lambda state, params: method.update(state, params, loss))
    project = jax.jit(method.project)
    for _ in range(2):
        state = update(state, params)
        assert np.all(np.isfinite(state.radii))
        trees.assert_same(project(params, state), params)
    # A derivative through |0| or sqrt(0) would have been NaN from here on.
    moved = update(state, layouts.draw(2))
    assert np.all(np.isfinite(moved.radii))


def test_fit_is_a_loop_of_update():
    pretrained, params = (trees.random_tree(SHAPES, seed) for seed in (0, 1))
    batches = [trees.random_tree(SHAPES, seed) for seed in range(20)]
    method = tpgm()

    def loss(p, batch):
        square = lambda w, b: jnp.sum((w - 0.3 * b) ** 2)
        return sum(jax.tree.leaves(jax.tree.map(square, p, batch)))

    update = jax.jit(lambda s, b: method.update(s, params, lambda p: loss(p, b)))
    expected = method.init(pretrained)
    for batch in batches:
        expected = update(expected, batch)
    start = method.init(pretrained)
    fitted = method.fit(start, params, loss, trees.stack(batches))
    trees.assert_close(fitted, expected)
    assert isinstance(fitted, TPGMState)


def test_the_state_of_an_nnx_model_is_projected_and_merged_back():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graphdef, variables, rest = nnx.split(model, nnx.Param, ...)
    plain = jax.tree.map(jnp.array, nnx.to_pure_dict(variables))
    x = jax.random.normal(jax.random.key(1), (16, 3))
    method = tpgm()

    def held(pretrained, predict):
        """The weights moved by 0.5, within radii of three steps."""
        params = jax.tree.map(lambda w: w + 0.5, pretrained)
        loss = lambda p: jnp.mean(predict(p) ** 2)
        update = jax.jit(lambda state: method.update(state, params, loss))
        state = update(update(update(method.init(pretrained))))
        return method.project(params, state), state.radii

    projected, radii = held(variables, lambda p: nnx.merge(graphdef, p, rest)(x))
    by_hand, expected = held(plain, lambda p: x @ p["kernel"] + p["bias"][None])
    np.testing.assert_allclose(radii, expected, rtol=1e-4)
    nnx.update(model, projected)
    held_by_model = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    trees.assert_close(held_by_model, by_hand, rtol=1e-5)
