"""TPGM: radii trained on held-out data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import layouts
import relatives_reference as reference
import trajectory
from ftp_optax import TPGMState, tpgm

NORMS = ("mars", "frobenius")
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


@pytest.mark.parametrize("norm", NORMS)
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
    for t, step in enumerate(layouts.gradients(24, pull=0.0)):
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


@pytest.mark.parametrize("norm", NORMS)
def test_the_first_radius_is_half_the_smallest_row_norm(norm):
    pretrained, params = layouts.draw(0), layouts.draw(1)
    method = tpgm(norm=norm, axes=layouts.AXES, radius_optimizer=optax.set_to_zero())
    update = jax.jit(lambda s: method.update(s, params, lambda p: 0.0 * p["scale"]))
    state = update(method.init(pretrained))
    assert not np.any(method.init(pretrained).radii)
    w_0, w = layouts.matrices(pretrained), layouts.matrices(params)
    expected = []
    for key in sorted(w):
        rows = np.abs(w[key] - w_0[key]).sum(axis=1)
        size = reference.frobenius_norm(w[key] - w_0[key])
        expected.append((rows.min() if norm == "mars" else size) / 2)
    np.testing.assert_allclose(state.radii, expected, rtol=1e-6)


def with_radii(method, pretrained, radii):
    return method.init(pretrained)._replace(radii=jnp.asarray(radii, jnp.float32))


@pytest.mark.parametrize("norm", NORMS)
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


def test_the_derivative_is_that_of_finite_differences(x64):
    del x64
    rng = np.random.default_rng(0)
    pretrained, params, pull = (jnp.asarray(rng.normal(size=(4, 3))) for _ in range(3))
    loss = lambda p: jnp.sum(jnp.sin(p) * pull)
    method = tpgm(radius_optimizer=optax.sgd(1.0))
    rows = np.sort(np.abs(np.asarray(params - pretrained)).sum(axis=0))
    radius = float(rows[:2].mean())  # above one row, below two
    state = with_radii(method, pretrained, [radius])
    h = float(state.radii[0] - method.update(state, params, loss).radii[0])
    at = lambda r: float(
        loss(method.project(params, with_radii(method, pretrained, [r])))
    )
    near = 2.0**-10
    difference = (at(radius + near) - at(radius - near)) / (2 * near)
    assert h == pytest.approx(difference, abs=1e-4)
    assert abs(h) > 0.01


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


@pytest.mark.parametrize("norm", NORMS)
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
        layouts.assert_same(project(params, state), params)
    # A derivative through |0| or sqrt(0) would have been NaN from here on.
    moved = update(state, layouts.draw(2))
    assert np.all(np.isfinite(moved.radii))


def batches_for(params, steps):
    noise = [trajectory.random_tree(SHAPES, seed) for seed in range(steps)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *noise)


def noisy_loss(p, batch):
    square = lambda w, b: jnp.sum((w - 0.3 * b) ** 2)
    return sum(jax.tree.leaves(jax.tree.map(square, p, batch)))


def test_fit_is_a_loop_of_update():
    pretrained = trajectory.random_tree(SHAPES, 0)
    params = trajectory.random_tree(SHAPES, 1)
    method, batches = tpgm(), batches_for(params, 20)
    update = jax.jit(
        lambda state, batch: method.update(
            state, params, lambda p: noisy_loss(p, batch)
        )
    )
    expected = method.init(pretrained)
    for i in range(20):
        expected = update(expected, jax.tree.map(lambda b, i=i: b[i], batches))
    found = method.fit(method.init(pretrained), params, noisy_loss, batches)
    layouts.assert_close(found, expected)
    assert isinstance(found, TPGMState)


def test_used_once_after_training_it_finds_the_best_radius():
    pretrained = {"w": jnp.zeros(4), "head": jnp.ones(2)}
    params = {"w": jnp.ones(4), "head": 2 * jnp.ones(2)}
    method = tpgm(exclude="head", radius_optimizer=optax.adam(5e-2))
    loss = lambda p, target: jnp.sum((p["w"] - target) ** 2) + p["head"].sum()
    state = method.fit(method.init(pretrained), params, loss, jnp.full((300,), 0.3))
    np.testing.assert_allclose(state.radii, [1.2], rtol=1e-3)
    projected = method.project(params, state)
    np.testing.assert_allclose(projected["w"], np.full(4, 0.3), rtol=1e-3)
    layouts.assert_same(projected["head"], params["head"])


@pytest.mark.parametrize("norm", NORMS)
def test_to_project_again_changes_nothing(norm):
    pretrained, params = layouts.draw(0), layouts.draw(1)
    loss, _ = quadratic(pretrained)
    method = tpgm(norm=norm, axes=layouts.AXES)
    update = jax.jit(lambda state: method.update(state, params, loss))
    state = update(method.init(pretrained))
    project = jax.jit(method.project)
    once = project(params, state)
    layouts.assert_close(project(once, state), once, rtol=1e-6, atol=1e-7)
    moved = layouts.flat(jax.tree.map(jnp.subtract, once, params))
    assert min(np.max(np.abs(d)) for d in moved.values()) > 1e-2


def test_a_training_step_can_donate_params_and_state():
    pretrained = trajectory.random_tree(SHAPES, 0)
    start = jax.tree.map(lambda w: w + 0.5, pretrained)
    method, batches = tpgm(), batches_for(start, 4)

    def step(params, state, batch):
        params = jax.tree.map(lambda w, b: w - 0.01 * b, params, batch)
        state = method.update(state, params, lambda p: noisy_loss(p, batch))
        return method.project(params, state), state

    donating = functools.partial(jax.jit, donate_argnums=(0, 1))(step)
    expected, expected_state = start, method.init(pretrained)
    params, state = jax.tree.map(jnp.array, start), method.init(pretrained)
    for i in range(4):
        batch = jax.tree.map(lambda b, i=i: b[i], batches)
        expected, expected_state = jax.jit(step)(expected, expected_state, batch)
        donated = jax.tree.leaves((params, state))
        params, state = donating(params, state, batch)
        assert all(leaf.is_deleted() for leaf in donated)
    layouts.assert_same((params, state), (expected, expected_state))


def test_the_state_of_an_nnx_model_is_projected_and_merged_back():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graphdef, pretrained, rest = nnx.split(model, nnx.Param, ...)
    x = jax.random.normal(jax.random.key(1), (16, 3))
    params = jax.tree.map(lambda w: w + 0.5, pretrained)
    method = tpgm()

    def held_out(p):
        return jnp.mean(nnx.merge(graphdef, p, rest)(x) ** 2)

    update = jax.jit(lambda state: method.update(state, params, held_out))
    state = method.init(pretrained)
    plain = {"bias": jnp.zeros(2), "kernel": pretrained["kernel"].get_value()}
    shifted = jax.tree.map(lambda w: w + 0.5, plain)
    loss = lambda p: jnp.mean((x @ p["kernel"] + p["bias"][None]) ** 2)
    update_plain = jax.jit(lambda state: method.update(state, shifted, loss))
    expected = method.init(plain)
    for _ in range(3):
        state, expected = update(state), update_plain(expected)
    np.testing.assert_allclose(state.radii, expected.radii, rtol=1e-4)
    nnx.update(model, method.project(params, state))
    by_hand = method.project(shifted, expected)
    np.testing.assert_allclose(model.kernel[...], by_hand["kernel"], rtol=1e-5)
    np.testing.assert_allclose(model.bias[...], by_hand["bias"], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_params_keep_their_dtype_and_wide_radii(dtype):
    pretrained, params = jnp.zeros((300, 2), dtype), jnp.ones((300, 2), dtype)
    method = tpgm()
    state = method.update(method.init(pretrained), params, lambda p: p.sum())
    assert state.anchor.dtype == params.dtype
    assert state.radii.dtype == jnp.float32
    projected = method.project(params, state)
    assert projected.dtype == params.dtype
    np.testing.assert_allclose(np.float32(projected), 0.5, rtol=1e-2)


def test_excluded_leaves_keep_out_of_it_and_a_stranger_state_is_refused():
    params = trajectory.random_tree(SHAPES, 0)
    method = tpgm(exclude="bias")
    state = method.init(params)
    assert state.radii.shape == (1,)
    assert isinstance(state.anchor["bias"], optax.MaskedNode)
    with pytest.raises(TypeError, match=r"state: expected the TPGMState"):
        method.project(params, optax.EmptyState())
    with pytest.raises(ValueError, match=r"state: its anchor was made for other"):
        tpgm().project(params, state)
    with pytest.raises(ValueError, match=r"state: it has radii of shape \(2,\)"):
        method.update(state._replace(radii=jnp.ones(2)), params, lambda p: 0.0)
    for call in (method.init, lambda p: method.project(p, state)):
        with pytest.raises(ValueError, match=r"params: .*got None"):
            call(None)
    with pytest.raises(TypeError, match=r"radius_optimizer: expected an optax"):
        tpgm(radius_optimizer=0.1)
    with pytest.raises(ValueError, match=r"norm: expected one of"):
        tpgm(norm="l2")
