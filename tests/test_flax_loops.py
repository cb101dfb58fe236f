"""FTP in the training loops that flax users write, donated buffers and all."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from ftp_optax import ftp, with_ftp

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
nn = pytest.importorskip("flax.linen", reason="flax is not installed")
train_state = pytest.importorskip(
    "flax.training.train_state", reason="flax is not installed"
)

STEPS = 8
WIDTH, HEADS, TOKENS, CLASSES, DEPTH = 8, 2, 11, 3, 2
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


def flat(tree: Any) -> dict[str, np.ndarray]:
    paths_and_leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in paths_and_leaves
    }


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


def train_nnx(tx: Any, pass_grad: bool = False):
    """Model, optimizer, step function, and what `assert_trained` looks at."""
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx_step(pass_grad)
    history, radii, losses = [pure(model)], [], []
    for _ in range(STEPS):
        donated = jax.tree.leaves(nnx.state((model, optimizer)))
        losses.append(float(step(model, optimizer, *batch())))
        assert all(array.is_deleted() for array in donated)
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
        assert all(array.is_deleted() for array in donated)
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
        assert all(array.is_deleted() for array in donated)
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
        np.testing.assert_allclose(leaf.drift, np.max(rows), rtol=1e-5)
        assert 0 < leaf.bound <= 1


def test_training_goes_on_from_an_anchor_reset_under_nnx_optimizer():
    tx = with_ftp(optax.adamw(1e-2), exclude="^head/")
    model, optimizer, step, (history, _, losses) = train_nnx(tx)
    optimizer.opt_state = ftp_optax.reset_anchor(
        optimizer.opt_state, nnx.state(model, nnx.Param)
    )
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


# A stack of layers


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
