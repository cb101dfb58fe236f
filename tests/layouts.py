"""Parameters as flax lays them out, and how they read as matrices of rows."""

import functools

import numpy as np
import optax

import numpy_reference
import trees
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

# Optimizers of optax, and the same in NumPy.
OPTIMIZERS = {
    "sgd": (optax.sgd(0.1, 0.9), lambda: numpy_reference.SGD(0.1, 0.9)),
    "adamw": (optax.adamw(0.02), lambda: numpy_reference.AdamW(0.02, 1e-4)),
}


def shapes(names=tuple(LAYOUTS)):
    nested = {}
    for name in names:
        *parents, last = name.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = LAYOUTS[name][0]
    return nested


def draw(seed, dtype="float32"):
    return trees.random_tree(shapes(), seed, dtype)


def matrices(params):
    """{(name, layer): matrix of rows in float64}; layer is 0 where there is none."""
    rows_of = {}
    for name, leaf in trees.flat(params).items():
        shape, order, layers, rows = LAYOUTS[name]
        x = np.float64(leaf).transpose(order)
        front = x.shape[layers : layers + rows]
        stacked = x.reshape(shape[0] if layers else 1, int(np.prod(front)), -1)
        rows_of |= {(name, i): matrix for i, matrix in enumerate(stacked)}
    return rows_of


def at(value):
    """A number, or a schedule, as a function of the step."""
    return (lambda t: float(value(t))) if callable(value) else lambda _: value


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
    after, state = trees.run(tx, params, grads, state)
    for params, g in zip(map(matrices, after), map(matrices, grads), strict=True):
        for key, actual in params.items():
            weights[key] = references[key].step(weights[key], g[key])
            np.testing.assert_allclose(
                actual, weights[key], rtol=rtol, atol=atol, err_msg=str(key)
            )
    return references, state
