"""A residual block with attention-like kernels, alone or stacked, and its training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ftp_optax
from ftp_optax import flax_axes, with_ftp

STEPS, BATCH, WIDTH, LAYERS = 50, 16, 16, 8
OPTIONS = {
    "default": {},
    "int8": {"displacement_dtype": "int8"},
    "implicit anchor": {"anchor": "implicit"},
    "host anchor": {"anchor_memory": "pinned_host"},
    "frobenius": {"norm": "frobenius"},
    "active": {"hypergradient": "active"},
}


def axes(params):
    """Of one block, or of several along a leading axis."""
    return flax_axes(params, scanned="^blocks/" if "blocks" in params else None)


def shapes(width=WIDTH, stacked=False):
    """Of one block; or of `LAYERS` along a leading axis, and a bias after the last."""
    block = {
        "query": {"kernel": (width, 8, width // 2)},
        "out": {"kernel": (8, width // 2, width)},
        "up": {"kernel": (width, 2 * width), "bias": (2 * width,)},
        "down": {"kernel": (2 * width, width), "bias": (width,)},
    }
    if not stacked:
        return {"block": block}
    blocks = map_shapes(lambda shape: (LAYERS, *shape), block)
    return {"blocks": blocks, "last": {"bias": (width,)}}


def map_shapes(f, tree):
    return jax.tree.map(f, tree, is_leaf=lambda x: isinstance(x, tuple))


def pretrained(stacked=False):
    rng = np.random.default_rng(0)

    def draw(shape):
        weights = 0.5 * rng.normal(size=shape) / np.sqrt(np.prod(shape[stacked:-1]))
        return jnp.asarray(weights, jnp.float32)

    return map_shapes(draw, shapes(stacked=stacked))


def batch():
    """Inputs, and what the pre-trained network would never say of them."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BATCH, WIDTH))
    y = np.tanh(x @ rng.normal(size=(WIDTH, WIDTH)))
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def as_it_is(name, leaf):
    return leaf


def anywhere(hidden, ndim):
    return None


def block(params, x, use=as_it_is, lies=anywhere):
    """The block's output for `x` of shape (batch, width).

    `use(name, leaf)` is the weight as the products take it. `lies(hidden, ndim)` is the
    sharding of an activation of that many axes whose second one counts hidden units, or
    does not; `None` leaves it to the compiler.
    """

    def weight(parent, kind="kernel"):
        return use(f"{parent}/{kind}", params[parent][kind])

    def product(formula, x, parent):
        out = formula.split("->")[1]
        where = lies(out != "bf", len(out))
        return jnp.einsum(formula, x, weight(parent), out_sharding=where)

    q = jnp.tanh(product("bf,fhd->bhd", x, "query"))
    x = x + product("bhd,hdf->bf", q, "out")
    h = jnp.tanh(product("bf,fu->bu", x, "up") + weight("up", "bias")[None])
    return x + product("bu,uf->bf", h, "down") + weight("down", "bias")[None]


def loss(params, batch, use=as_it_is, lies=anywhere):
    x, y = batch
    if "block" in params:
        predicted = block(params["block"], x, use, lies)
    else:
        predicted, _ = jax.lax.scan(
            lambda x, layer: (block(layer, x, use, lies), None), x, params["blocks"]
        )
        predicted = predicted + use("last/bias", params["last"]["bias"])[None]
    return jnp.mean((predicted - y) ** 2)


def optimizer(option="default", **arguments):
    """At these rates radii bind some of the rows: neither none nor all."""
    arguments = {"radius_optimizer": optax.adam(5e-2), "axes": axes, **arguments}
    return with_ftp(optax.adamw(3e-3), **OPTIONS[option], **arguments)


def step_of(tx, gradient):
    """A step of `tx` where `gradient(params, batch)` leads."""

    def step(params, state, batch):
        updates, state = tx.update(gradient(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    return step


def train(step, params, state, batch, steps=STEPS):
    for _ in range(steps):
        params, state = jax.block_until_ready(step(params, state, batch))
    return params, state


def name_of(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def result(params, state):
    """Params and radii by name, such as `params/block/up/bias`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = {f"params/{name_of(path)}": np.asarray(leaf) for path, leaf in leaves}
    for path, radius in ftp_optax.radii(state, params, axes=axes).items():
        found[f"radii/{path}"] = np.asarray(radius)
    return found


@functools.cache
def trained_on_one_device(stacked=False, option="default", steps=STEPS):
    params, tx = pretrained(stacked), optimizer(option)
    step = jax.jit(step_of(tx, jax.grad(loss)), donate_argnums=(0, 1))
    return train(step, params, tx.init(params), batch(), steps)


def expected(*run):
    return result(*trained_on_one_device(*run))


def how_it_went(stacked=False, *run):
    """Losses before and after, and radius, norms and share of bound rows by path."""
    params, state = trained_on_one_device(stacked, *run)
    summary = ftp_optax.summary(state, params, axes=axes)
    losses = [float(loss(p, batch())) for p in (pretrained(stacked), params)]
    return losses, {path: tuple(map(np.asarray, s)) for path, s in summary.items()}


def assert_equal(actual, expected, tolerance=1e-5):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(
            actual[name], array, rtol=tolerance, atol=tolerance, err_msg=name
        )
