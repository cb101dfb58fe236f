"""A scanned stack of flax layers trains as the same layers one by one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from flax_runs import (
    CLASSES,
    STEPS,
    WIDTH,
    nnx_step,
    pure,
)
from ftp_optax import with_ftp
from layouts import flat

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")

DEPTH = 2


class Block(nnx.Module):
    def __init__(self, rngs: Any):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + nnx.gelu(self.linear(self.norm(x)))


class Stacked(nnx.Module):
    def __init__(self, rngs: Any):
        @nnx.split_rngs(splits=DEPTH)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs: Any) -> Block:
            return Block(rngs)

        self.blocks = make(rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x: jax.Array, block: Block) -> jax.Array:
            return block(x)

        return self.head(forward(x, self.blocks))


class Unstacked(nnx.Module):
    def __init__(self, rngs: Any):
        self.blocks = nnx.List([Block(rngs) for _ in range(DEPTH)])
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def train_on_features(model: Any, axes: Any):
    """Losses, and then the params and radii of `model` by name."""
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/", axes=axes)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx_step(pass_grad=False)
    x = jax.random.normal(jax.random.key(2), (32, WIDTH))
    labels = jnp.argmax(x[:, :CLASSES], axis=1)
    losses = [float(step(model, optimizer, x, labels)) for _ in range(STEPS)]
    params = nnx.state(model, nnx.Param)
    radii = ftp_optax.radii(optimizer.opt_state, params, axes=axes)
    return losses, flat(pure(model)), jax.device_get(radii)


def test_a_scanned_stack_trains_as_the_same_layers_one_by_one():
    stacked, unstacked = Stacked(nnx.Rngs(0)), Unstacked(nnx.Rngs(1))
    weights = pure(stacked)
    for i, block in enumerate(unstacked.blocks):
        nnx.update(block, jax.tree.map(lambda w, i=i: w[i], weights["blocks"]))
    nnx.update(unstacked.head, weights["head"])

    axes = functools.partial(ftp_optax.flax_axes, scanned="^blocks/")
    losses, params, radii = train_on_features(stacked, axes)
    own_losses, own_params, own_radii = train_on_features(unstacked, None)
    np.testing.assert_allclose(losses, own_losses, rtol=1e-5)
    assert losses[-1] < 0.97 * losses[0]
    leaves = ("linear/bias", "linear/kernel", "norm/bias", "norm/scale")
    assert list(radii) == [f"blocks/{leaf}" for leaf in leaves]
    assert len(own_radii) == DEPTH * len(radii)
    before = flat(weights)
    for name, radius in radii.items():
        assert radius.shape == (DEPTH,)
        for i in range(DEPTH):
            own = name.replace("blocks/", f"blocks/{i}/")
            np.testing.assert_allclose(radius[i], own_radii[own], rtol=1e-4)
            np.testing.assert_allclose(
                params[name][i], own_params[own], rtol=1e-5, atol=1e-5
            )
            assert np.any(params[name][i] != before[name][i])
    # Each layer has a radius of its own.
    assert np.ptp(radii["blocks/linear/kernel"]) > 0
