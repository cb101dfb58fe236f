"""Models and training loops that flax users write, donated buffers and all."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from ftp_optax import ftp, with_ftp
from trees import is_weight

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")
train_state = pytest.importorskip("flax.training.train_state")

STEPS = 8
WIDTH, HEADS, TOKENS, CLASSES, DEPTH = 8, 2, 11, 3, 2
AXES_WITHIN_A_ROW = {
    "conv/kernel": (0, 1),
    "embed/embedding": 1,
    "attention/key/kernel": 0,
    "attention/query/kernel": 0,
    "attention/value/kernel": 0,
    "attention/out/kernel": (0, 1),
}
TX = with_ftp(optax.adamw(1e-2), exclude="^head/")

# ---- Models ------------------------------------------------------------------------


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
    """Copies of params, boxed or variables of a module, as plain dictionaries."""
    if isinstance(tree, nnx.State):
        tree = nnx.to_pure_dict(tree)
    return jax.tree.map(np.array, nn.meta.unbox(tree))


# ---- Loops -------------------------------------------------------------------------


class Loop(NamedTuple):
    """Where it starts, a step to a new place and its loss, and what is at a place."""

    start: Any
    step: Callable[..., tuple[Any, jax.Array]]
    params: Callable[[Any], Any]
    opt_state: Callable[[Any], Any]


def nnx_loop(model: Any = None, tx: Any = TX, pass_grad: bool = False) -> Loop:
    model = Model(nnx.Rngs(0)) if model is None else model

    @nnx.jit(donate_argnums=(0, 1))
    def step(model: Any, optimizer: Any, x: jax.Array, labels: jax.Array):
        loss = lambda model: cross_entropy(model(x), labels)
        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads, **({"grad": grads} if pass_grad else {}))
        return value

    return Loop(
        (model, nnx.Optimizer(model, tx, wrt=nnx.Param)),
        lambda at, *batch: (at, step(*at, *batch)),
        lambda at: nnx.state(at[0], nnx.Param),
        lambda at: at[1].opt_state,
    )


def link_given_grad() -> Loop:
    tx = optax.chain(optax.adamw(1e-2), ftp(exclude="^head/"))
    return nnx_loop(tx=tx, pass_grad=True)


def functional_loop() -> Loop:
    graphdef, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(at: Any, tokens: jax.Array, labels: jax.Array):
        params, state = at

        def loss(params: Any) -> jax.Array:
            model = nnx.merge(graphdef, params, rest, copy=True)
            return cross_entropy(model(tokens), labels)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = TX.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    start = params, TX.init(params)
    return Loop(start, step, lambda at: at[0], lambda at: at[1])


def linen_loop(box: Callable[[np.ndarray], Any] = jnp.array) -> Loop:
    params = jax.tree.map(box, pure(nnx.state(Model(nnx.Rngs(0)), nnx.Param)))
    start = train_state.TrainState.create(
        apply_fn=LinenModel().apply, params=params, tx=TX
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def step(at: Any, tokens: jax.Array, labels: jax.Array):
        def loss(params: Any) -> jax.Array:
            return cross_entropy(at.apply_fn({"params": params}, tokens), labels)

        value, grads = jax.value_and_grad(loss)(at.params)
        return at.apply_gradients(grads=grads), value

    return Loop(start, step, lambda at: at.params, lambda at: at.opt_state)


def boxed(leaf: np.ndarray) -> Any:
    names = (None,) * (leaf.ndim - 1) + ("model",)
    return nn.Partitioned(jnp.array(leaf), names=names)


class Trained(NamedTuple):
    last: Any  # the place at the end
    history: list[Any]  # params, from the anchor on
    radii: list[Any]
    losses: list[float]


def train(loop: Loop, batch: Any = batch, axes: Any = None) -> Trained:
    at, radii, losses = loop.start, [], []
    history = [pure(loop.params(at))]
    for _ in range(STEPS):
        donated = jax.tree.leaves((loop.params(at), loop.opt_state(at)))
        at, value = loop.step(at, *batch())
        assert all(array.is_deleted() for array in donated if is_weight(array))
        losses.append(float(value))
        history.append(pure(loop.params(at)))
        read = ftp_optax.radii(loop.opt_state(at), loop.params(at), axes=axes)
        radii.append(jax.device_get(read))
    return Trained(at, history, radii, losses)
