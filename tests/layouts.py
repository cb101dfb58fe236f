"""Parameters as flax lays them out, and how they read as matrices of rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftp_optax import flax_axes

AXES = functools.partial(flax_axes, scanned="^blocks/")

# Shape, and the order of axes that brings layers, then rows, to the front; how many
# axes are of layers, how many of rows.
LAYOUTS = {
    "dense/kernel": ((3, 4), (1, 0), 0, 1),
    "dense/bias": ((4,), (0,), 0, 0),
    "query/kernel": ((3, 2, 2), (1, 2, 0), 0, 2),
    "out/kernel": ((2, 2, 3), (2, 0, 1), 0, 1),
    "embed/embedding": ((5, 3), (0, 1), 0, 1),
    "blocks/kernel": ((2, 3, 4), (0, 2, 1), 1, 1),
    "blocks/bias": ((2, 4), (0, 1), 1, 0),
    "scale": ((), (), 0, 0),
}


def tree(make):
    """The params' tree of `make(name, shape)`."""
    nested = {}
    for name, (shape, *_) in LAYOUTS.items():
        *parents, last = name.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = make(name, shape)
    return nested


def draw(seed):
    rng = np.random.default_rng(seed)
    return tree(lambda _, shape: jnp.asarray(rng.normal(size=shape), jnp.float32))


def gradients(steps, seed=1, pull=1.0):
    """A pull one way for two thirds of the steps, then back, under noise."""
    rng = np.random.default_rng(seed)
    pulls = {name: pull * rng.normal(size=LAYOUTS[name][0]) for name in LAYOUTS}
    drawn = []
    for t in range(steps):
        sign = 1.0 if t < 2 * steps / 3 else -1.0

        def make(name, shape, sign=sign):
            noise = 0.5 * rng.normal(size=shape)
            return jnp.asarray(sign * pulls[name] + noise, jnp.float32)

        drawn.append(tree(make))
    return drawn


def matrices(params):
    """{(name, layer): matrix of rows in float64}; layer is 0 where there is none."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shape, order, layers, rows = LAYOUTS[name]
        x = np.asarray(leaf, np.float64).transpose(order)
        front = x.shape[layers : layers + rows]
        stacked = x.reshape(shape[0] if layers else 1, int(np.prod(front)), -1)
        for i, matrix in enumerate(stacked):
            found[name, i] = matrix
    return found


@functools.cache
def step_of(tx):
    """One step of `tx` on a given gradient, compiled once."""

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


def run(tx, params, grads, state=None):
    """The params after each step on the given gradients, and the last state."""
    state = tx.init(params) if state is None else state
    seen = []
    for g in grads:
        params, state = step_of(tx)(params, state, g)
        seen.append(params)
    return seen, state


def assert_agree(
    tx, make_reference, params, grads, rtol=2e-6, atol=2e-6, pretrained=None
):
    """Compares a run of `tx` with a reference for each tensor, at every step.

    `make_reference(key, w)` is of the key and the first weights of a tensor; returns
    the references, by key, for what else is to be asked of them. The anchor is
    `pretrained` where that is given.
    """
    weights = matrices(params)
    references = {key: make_reference(key, w) for key, w in weights.items()}
    state = tx.init(params if pretrained is None else pretrained)
    seen, state = run(tx, params, grads, state)
    for after, g in zip(seen, map(matrices, grads), strict=True):
        for key, actual in matrices(after).items():
            weights[key] = references[key].step(weights[key], g[key])
            np.testing.assert_allclose(
                actual, weights[key], rtol=rtol, atol=atol, err_msg=str(key)
            )
    return references, state


def by_name(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def flat(params):
    return {name: np.asarray(leaf) for name, leaf in by_name(params).items()}


def assert_close(actual, expected, rtol=1e-6, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def assert_same(actual, expected):
    """Equality of trees, dtypes and bits: 0.0 is not -0.0."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        assert a.dtype == b.dtype, name
        assert a.tobytes() == b.tobytes(), f"{name}: {a} is not {b}"
