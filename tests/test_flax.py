"""FTP in the training loops of flax: within the radii, and one like the other."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flax_loops
import ftp_optax
from flax_loops import (
    AXES_WITHIN_A_ROW,
    CLASSES,
    DEPTH,
    WIDTH,
    Trained,
    nnx_loop,
    train,
)
from ftp_optax import with_ftp
from trees import flat

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")

ATTENTION = [f"attention/{name}/kernel" for name in ("key", "out", "query", "value")]
OTHER_NAMES = ["conv/kernel", "embed/embedding", "norm/bias", "norm/scale"]
LOOPS = {
    "nnx": nnx_loop,
    "link given grad": flax_loops.link_given_grad,
    "functional": flax_loops.functional_loop,
    "linen": flax_loops.linen_loop,
    "boxed linen": functools.partial(flax_loops.linen_loop, flax_loops.boxed),
}


@functools.cache
def nnx_run() -> Trained:
    """One run that the tests compare with, and do not continue."""
    return train(nnx_loop())


def assert_within_radii(params: Any, anchor: Any, radii: dict[str, Any]) -> None:
    """No row has left its radius, up to the rounding of params + update."""
    before = flat(anchor)
    for name, w in flat(params).items():
        if name in radii:
            over = AXES_WITHIN_A_ROW.get(name)
            drift = np.sum(np.abs(w - before[name]), axis=over)
            rounding = 1.2e-7 * np.sum(np.abs(w), axis=over)
            assert np.all(drift <= radii[name] * (1 + 1e-5) + rounding), name


def assert_close(actual: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    assert list(actual) == list(expected)
    for name in actual:
        np.testing.assert_allclose(
            actual[name], expected[name], rtol=rtol, atol=atol, err_msg=name
        )


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_every_loop_trains_within_the_radii_and_as_the_others_do(loop):
    _, history, radii, losses = train(loop())
    assert list(radii[0]) == sorted(ATTENTION + OTHER_NAMES)
    anchor, first, last = flat(history[0]), flat(history[1]), flat(history[-1])
    for name, w in anchor.items():
        assert np.any(last[name] != w)
        if name in radii[0]:
            np.testing.assert_allclose(first[name], w, rtol=1e-6, atol=2e-8)
        else:
            assert np.max(np.abs(first[name] - w)) > 1e-3, name
    for params, radius in zip(history[1:], radii, strict=True):
        assert_within_radii(params, history[0], radius)
    assert all(radius > 1e-3 for radius in radii[-1].values())
    assert losses[-1] < 0.97 * losses[0]
    assert all(later < sooner for sooner, later in itertools.pairwise(losses))
    # The same step in another program: XLA may fuse it otherwise.
    expected = nnx_run()
    assert_close(last, flat(expected.history[-1]), rtol=1e-5, atol=1e-6)
    assert_close(radii[-1], expected.radii[-1], rtol=1e-4)
    np.testing.assert_allclose(losses, expected.losses, rtol=1e-5)


def test_partitioned_boxes_of_linen_stay_around_params_and_anchor():
    state = flax_loops.linen_loop(flax_loops.boxed).start
    assert isinstance(state.params["conv"]["kernel"], nn.Partitioned)
    anchor = state.opt_state[1].anchor
    assert anchor["conv"]["kernel"].names == (None, None, "model")


def test_the_radii_of_an_nnx_model_are_called_as_its_parameters():
    model = flax_loops.Model(nnx.Rngs(0), use_bias=True)
    optimizer = nnx.Optimizer(model, with_ftp(optax.adamw(1e-2)), wrt=nnx.Param)
    biases = [name.replace("kernel", "bias") for name in ATTENTION]
    expected = ATTENTION + OTHER_NAMES + biases
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
    (model, optimizer), history, radii, _ = nnx_run()
    params = nnx.state(model, nnx.Param)
    summary = ftp_optax.summary(optimizer.opt_state, params)
    assert list(summary) == list(radii[-1])
    last, anchor = flat(history[-1]), flat(history[0])
    for name, leaf in summary.items():
        assert leaf.radius == radii[-1][name]
        rows = np.abs(last[name] - anchor[name]).sum(axis=AXES_WITHIN_A_ROW.get(name))
        assert np.max(rows) <= leaf.radius * (1 + 1e-5) < leaf.norm * (1 + 2e-5)
        assert 0 < leaf.bound <= 1


def test_training_goes_on_from_an_anchor_reset_under_nnx_optimizer():
    loop = nnx_loop()
    (model, optimizer), history, _, losses = train(loop)
    with pytest.raises(ValueError, match=r"params: .* state = reset_anchor"):
        ftp_optax.check_anchor(optimizer, jax.tree.map(lambda w: 2 * w, model))
    # In place, as everything that nnx users write.
    assert ftp_optax.reset_anchor(optimizer, model) is optimizer
    ftp_optax.check_anchor(optimizer, model)
    second = train(loop)
    assert second.losses[-1] < losses[-1]
    before = flat(second.history[0])
    for name, w in flat(second.history[1]).items():
        if name in second.radii[0]:
            np.testing.assert_allclose(w, before[name], rtol=1e-6, atol=2e-8)
            assert np.any(w != flat(history[0])[name])
    for params, radius in zip(second.history[1:], second.radii, strict=True):
        assert_within_radii(params, second.history[0], radius)


# ---- Stacks of layers --------------------------------------------------------------


class Block(nnx.Module):
    def __init__(self, rngs: Any):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + nnx.gelu(self.linear(self.norm(x)))


class Stacked(nnx.Module):
    def __init__(self, rngs: Any):
        make = nnx.vmap(Block, in_axes=(0,), out_axes=0)
        self.blocks = nnx.split_rngs(splits=DEPTH)(make)(rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x: jax.Array, block: Block) -> jax.Array:
            return block(x)

        return self.head(forward(x, self.blocks))


def features() -> tuple[jax.Array, jax.Array]:
    x = jax.random.normal(jax.random.key(2), (32, WIDTH))
    return x, jnp.argmax(x[:, :CLASSES], axis=1)


def test_each_layer_of_a_scanned_stack_has_a_radius_of_its_own():
    axes = functools.partial(ftp_optax.flax_axes, scanned="^blocks/")
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/", axes=axes)
    loop = nnx_loop(Stacked(nnx.Rngs(0)), tx)
    _, history, radii, losses = train(loop, features, axes)
    assert losses[-1] < 0.97 * losses[0]
    leaves = ("linear/bias", "linear/kernel", "norm/bias", "norm/scale")
    assert list(radii[-1]) == [f"blocks/{leaf}" for leaf in leaves]
    before, after = flat(history[0]), flat(history[-1])
    for name, radius in radii[-1].items():
        assert radius.shape == (DEPTH,)
        over = 0 if name.endswith("kernel") else None
        for i in range(DEPTH):
            rows = np.abs(after[name][i] - before[name][i]).sum(over)
            assert 0 < np.max(rows) <= radius[i] * (1 + 1e-4), name
    assert np.ptp(radii[-1]["blocks/linear/kernel"]) > 0
