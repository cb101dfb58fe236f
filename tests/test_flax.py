"""FTP in the training loops that flax users write, donated buffers and all."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from ftp_optax import ftp, with_ftp
from trees import flat, is_weight

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")
train_state = pytest.importorskip("flax.training.train_state")

STEPS = 8
WIDTH, HEADS, TOKENS, CLASSES, DEPTH = 8, 2, 11, 3, 2
OTHER_NAMES = ["conv/kernel", "embed/embedding", "norm/bias", "norm/scale"]
ATTENTION = [f"attention/{name}/kernel" for name in ("key", "out", "query", "value")]
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


@functools.cache
def nnx_run() -> Trained:
    """One run that the tests compare with, and do not continue."""
    return train(nnx_loop())


# ---- Tests -------------------------------------------------------------------------


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


LOOPS = {
    "nnx": nnx_loop,
    "link given grad": link_given_grad,
    "functional": functional_loop,
    "linen": linen_loop,
    "boxed linen": functools.partial(linen_loop, boxed),
}


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
    state = linen_loop(boxed).start
    assert isinstance(state.params["conv"]["kernel"], nn.Partitioned)
    anchor = state.opt_state[1].anchor
    assert anchor["conv"]["kernel"].names == (None, None, "model")


def test_the_radii_of_an_nnx_model_are_called_as_its_parameters():
    model = Model(nnx.Rngs(0), use_bias=True)
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


class Unstacked(nnx.Module):
    """The layers of a stack, one by one."""

    def __init__(self, stacked: Stacked):
        rngs = nnx.Rngs(1)
        self.blocks = nnx.List([Block(rngs) for _ in range(DEPTH)])
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        weights = pure(nnx.state(stacked, nnx.Param))
        for i, block in enumerate(self.blocks):
            nnx.update(block, jax.tree.map(lambda w, i=i: w[i], weights["blocks"]))
        nnx.update(self.head, weights["head"])

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def features() -> tuple[jax.Array, jax.Array]:
    x = jax.random.normal(jax.random.key(2), (32, WIDTH))
    return x, jnp.argmax(x[:, :CLASSES], axis=1)


def test_a_scanned_stack_trains_as_the_same_layers_one_by_one():
    axes = functools.partial(ftp_optax.flax_axes, scanned="^blocks/")
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/", axes=axes)
    model = Stacked(nnx.Rngs(0))
    alone = train(nnx_loop(Unstacked(model)), features)
    stacked = train(nnx_loop(model, tx), features, axes)
    np.testing.assert_allclose(stacked.losses, alone.losses, rtol=1e-5)
    assert stacked.losses[-1] < 0.97 * stacked.losses[0]
    radii, own_radii = stacked.radii[-1], alone.radii[-1]
    leaves = ("linear/bias", "linear/kernel", "norm/bias", "norm/scale")
    assert list(radii) == [f"blocks/{leaf}" for leaf in leaves]
    assert len(own_radii) == DEPTH * len(radii)
    params, own_params = flat(stacked.history[-1]), flat(alone.history[-1])
    for name, radius in radii.items():
        assert radius.shape == (DEPTH,)
        for i in range(DEPTH):
            own = name.replace("blocks/", f"blocks/{i}/")
            np.testing.assert_allclose(radius[i], own_radii[own], rtol=1e-4)
            np.testing.assert_allclose(
                params[name][i], own_params[own], rtol=1e-5, atol=1e-5
            )
    # Each layer has a radius of its own.
    assert np.ptp(radii["blocks/linear/kernel"]) > 0
