"""FTP in the training loops that flax users write, donated buffers and all."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from contract_runs import is_weight
from flax_runs import (
    ATTENTION_KERNELS,
    AXES_WITHIN_A_ROW,
    OTHER_NAMES,
    STEPS,
    LinenModel,
    Model,
    assert_close,
    assert_trained,
    assert_within_radii,
    batch,
    cross_entropy,
    nnx_step,
    pure,
)
from ftp_optax import ftp, with_ftp
from layouts import flat

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")
train_state = pytest.importorskip(
    "flax.training.train_state", reason="flax is not installed"
)


def train_nnx(tx: Any, pass_grad: bool = False):
    """Model, optimizer, step function, and what `assert_trained` looks at."""
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx_step(pass_grad)
    history, radii, losses = [pure(model)], [], []
    for _ in range(STEPS):
        donated = jax.tree.leaves(nnx.state((model, optimizer)))
        losses.append(float(step(model, optimizer, *batch())))
        assert all(array.is_deleted() for array in donated if is_weight(array))
        history.append(pure(model))
        params = nnx.state(model, nnx.Param)
        radii.append(jax.device_get(ftp_optax.radii(optimizer.opt_state, params)))
    return model, optimizer, step, (history, radii, losses)


@functools.cache
def nnx_run():
    """One run that the tests compare with, and do not continue."""
    return train_nnx(with_ftp(optax.adamw(1e-2), exclude="^head/"))


def test_the_loop_of_nnx_optimizer_trains_within_the_radii():
    *_, (history, radii, losses) = nnx_run()
    assert list(radii[0]) == sorted(ATTENTION_KERNELS + OTHER_NAMES)
    assert_trained(history, radii, losses)


def test_a_link_that_is_given_grad_by_nnx_optimizer_equals_the_wrapper():
    tx = optax.chain(optax.adamw(1e-2), ftp(exclude="^head/"))
    *_, (history, radii, losses) = train_nnx(tx, pass_grad=True)
    *_, (expected_history, expected_radii, expected_losses) = nnx_run()
    assert_close(flat(history[-1]), flat(expected_history[-1]), rtol=0)
    assert_close(radii[-1], expected_radii[-1], rtol=0)
    assert losses == expected_losses


def test_a_bare_functional_loop_with_donation_equals_nnx_optimizer():
    graphdef, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/")
    state = tx.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, tokens: jax.Array, labels: jax.Array):
        def loss(params: Any) -> jax.Array:
            model = nnx.merge(graphdef, params, rest, copy=True)
            return cross_entropy(model(tokens), labels)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    history, radii, losses = [pure(nnx.to_pure_dict(params))], [], []
    for _ in range(STEPS):
        donated = jax.tree.leaves((params, state))
        params, state, value = step(params, state, *batch())
        assert all(array.is_deleted() for array in donated if is_weight(array))
        history.append(pure(nnx.to_pure_dict(params)))
        radii.append(jax.device_get(ftp_optax.radii(state, params)))
        losses.append(float(value))
    assert_trained(history, radii, losses)
    *_, (expected_history, expected_radii, _) = nnx_run()
    # The same step in another program: XLA may fuse it otherwise.
    assert_close(flat(history[-1]), flat(expected_history[-1]), rtol=1e-5, atol=1e-6)
    assert_close(radii[-1], expected_radii[-1], rtol=1e-4)


def train_linen(params: Any):
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/")
    state = train_state.TrainState.create(
        apply_fn=LinenModel().apply, params=params, tx=tx
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, tokens: jax.Array, labels: jax.Array):
        def loss(params: Any) -> jax.Array:
            return cross_entropy(state.apply_fn({"params": params}, tokens), labels)

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    history, radii, losses = [pure(params)], [], []
    for _ in range(STEPS):
        donated = jax.tree.leaves((state.params, state.opt_state))
        state, value = step(state, *batch())
        assert all(array.is_deleted() for array in donated if is_weight(array))
        history.append(pure(state.params))
        radii.append(jax.device_get(ftp_optax.radii(state.opt_state, state.params)))
        losses.append(float(value))
    return state, (history, radii, losses)


def test_a_linen_train_state_equals_nnx_on_the_same_weights():
    *_, (expected_history, expected_radii, expected_losses) = nnx_run()
    params = jax.tree.map(jnp.array, expected_history[0])
    names = flat(LinenModel().init(jax.random.key(0), batch()[0])["params"])
    assert list(names) == list(flat(params))
    _, (history, radii, losses) = train_linen(params)
    assert_trained(history, radii, losses)
    assert_close(flat(history[-1]), flat(expected_history[-1]), rtol=1e-5, atol=1e-6)
    assert_close(radii[-1], expected_radii[-1], rtol=1e-4)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)


def test_partitioned_boxes_of_linen_change_neither_names_nor_values():
    def boxed(leaf: np.ndarray) -> Any:
        names = (None,) * (leaf.ndim - 1) + ("model",)
        return nn.Partitioned(jnp.array(leaf), names=names)

    *_, (expected_history, expected_radii, _) = nnx_run()
    state, (history, radii, losses) = train_linen(
        jax.tree.map(boxed, expected_history[0])
    )
    assert isinstance(state.params["conv"]["kernel"], nn.Partitioned)
    anchor = state.opt_state[1].anchor
    assert anchor["conv"]["kernel"].names == (None, None, "model")
    assert_trained(history, radii, losses)
    assert_close(flat(history[-1]), flat(expected_history[-1]), rtol=1e-5, atol=1e-6)
    assert_close(radii[-1], expected_radii[-1], rtol=1e-4)


def test_the_radii_of_an_nnx_model_are_called_as_its_parameters():
    model = Model(nnx.Rngs(0), use_bias=True)
    optimizer = nnx.Optimizer(model, with_ftp(optax.adamw(1e-2)), wrt=nnx.Param)
    biases = [name.replace("kernel", "bias") for name in ATTENTION_KERNELS]
    expected = ATTENTION_KERNELS + OTHER_NAMES + biases
    expected += ["conv/bias", "head/bias", "head/kernel"]
    # Variables in the params as at init, plain arrays as within update.
    for params in (
        nnx.state(model, nnx.Param),
        nnx.as_pure(nnx.state(model, nnx.Param)),
    ):
        radii = ftp_optax.radii(optimizer.opt_state, params)
        assert list(radii) == sorted(expected)
        assert {r.shape for r in radii.values()} == {()}


def test_summary_reads_the_state_of_nnx_optimizer():
    model, optimizer, _, (history, radii, _) = nnx_run()
    params = nnx.state(model, nnx.Param)
    found = ftp_optax.summary(optimizer.opt_state, params)
    assert list(found) == list(radii[-1])
    last, anchor = flat(history[-1]), flat(history[0])
    for name, leaf in found.items():
        assert leaf.radius == radii[-1][name]
        rows = np.abs(last[name] - anchor[name]).sum(axis=AXES_WITHIN_A_ROW.get(name))
        assert np.max(rows) <= leaf.radius * (1 + 1e-5) < leaf.norm * (1 + 2e-5)
        assert 0 < leaf.bound <= 1


def test_training_goes_on_from_an_anchor_reset_under_nnx_optimizer():
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/")
    model, optimizer, step, (history, _, losses) = train_nnx(tx)
    with pytest.raises(ValueError, match=r"params: .* state = reset_anchor"):
        ftp_optax.check_anchor(optimizer, jax.tree.map(lambda w: 2 * w, model))
    # In place, as everything that nnx users write.
    assert ftp_optax.reset_anchor(optimizer, model) is optimizer
    ftp_optax.check_anchor(optimizer, model)
    second, radii, second_losses = [pure(model)], [], []
    for _ in range(STEPS):
        second_losses.append(float(step(model, optimizer, *batch())))
        second.append(pure(model))
        params = nnx.state(model, nnx.Param)
        radii.append(jax.device_get(ftp_optax.radii(optimizer.opt_state, params)))
    assert second_losses[-1] < losses[-1]
    before = flat(second[0])
    for name, w in flat(second[1]).items():
        if name in radii[0]:
            np.testing.assert_allclose(w, before[name], rtol=1e-6, atol=2e-8)
            assert np.any(w != flat(history[0])[name])
    for params, radius in zip(second[1:], radii, strict=True):
        assert_within_radii(params, second[0], radius)
