"""Models and steps of flax users, and what must hold after them."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from layouts import flat

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")

STEPS = 8
WIDTH, HEADS, TOKENS, CLASSES = 8, 2, 11, 3
OTHER_NAMES = ["conv/kernel", "embed/embedding", "norm/bias", "norm/scale"]
ATTENTION_KERNELS = [
    f"attention/{name}/kernel" for name in ("key", "out", "query", "value")
]


class Model(nnx.Module):
    def __init__(self, rngs: Any, use_bias: bool = False):
        self.embed = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        self.conv = nnx.Conv(WIDTH, WIDTH, (3,), use_bias=use_bias, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, use_bias=use_bias, decode=False, rngs=rngs
        )
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.conv(self.embed(tokens))
        x = x + self.attention(self.norm(x))
        return self.head(x.mean(axis=1))


class LinenModel(nn.Module):
    """`Model` in linen, with parameters of the same names."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(TOKENS, WIDTH, name="embed")(tokens)
        x = nn.Conv(WIDTH, (3,), use_bias=False, name="conv")(x)
        y = nn.LayerNorm(name="norm")(x)
        x = x + nn.MultiHeadDotProductAttention(
            HEADS, use_bias=False, name="attention"
        )(y, y)
        return nn.Dense(CLASSES, name="head")(x.mean(axis=1))


def batch() -> tuple[jax.Array, jax.Array]:
    tokens = jax.random.randint(jax.random.key(1), (32, 5), 0, TOKENS)
    return tokens, tokens[:, 0] % CLASSES


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)


def pure(tree: Any) -> Any:
    """Copies of a module's params, or of a boxed tree, as plain dictionaries."""
    if isinstance(tree, nnx.Module):
        tree = nnx.to_pure_dict(nnx.state(tree, nnx.Param))
    return jax.tree.map(np.array, nn.meta.unbox(tree))


AXES_WITHIN_A_ROW = {
    "conv/kernel": (0, 1),
    "embed/embedding": 1,
    "attention/key/kernel": 0,
    "attention/query/kernel": 0,
    "attention/value/kernel": 0,
    "attention/out/kernel": (0, 1),
}


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


def assert_trained(history: list[Any], radii: list[Any], losses: list[float]) -> None:
    """What every loop here must show; `history` starts with the anchor."""
    anchor = history[0]
    first = flat(history[1])
    for name, w in flat(anchor).items():
        if name in radii[0]:
            np.testing.assert_allclose(first[name], w, rtol=1e-6, atol=2e-8)
        else:
            assert np.max(np.abs(first[name] - w)) > 1e-3, name
    for params, radius in zip(history[1:], radii, strict=True):
        assert_within_radii(params, anchor, radius)
    last = flat(history[-1])
    assert all(np.any(last[n] != w) for n, w in flat(anchor).items())
    assert all(radius > 1e-3 for radius in radii[-1].values())
    assert losses[-1] < 0.97 * losses[0]
    assert all(later < sooner for sooner, later in itertools.pairwise(losses))


def nnx_step(pass_grad: bool) -> Any:
    @nnx.jit(donate_argnums=(0, 1))
    def step(model: Any, optimizer: Any, tokens: jax.Array, labels: jax.Array):
        def loss(model: Any) -> jax.Array:
            return cross_entropy(model(tokens), labels)

        value, grads = nnx.value_and_grad(loss)(model)
        if pass_grad:
            optimizer.update(model, grads, grad=grads)
        else:
            optimizer.update(model, grads)
        return value

    return step
