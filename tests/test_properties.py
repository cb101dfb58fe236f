"""What every method holds at every step, over drawn runs.

`EXHAUSTIVE=500 pytest tests/test_properties.py` draws as many of each, at random.
"""

import functools
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import layouts
import methods
import trees
from ftp_optax import FTPState, TPGMState
from relatives_reference import NORMS

EXAMPLES = int(os.environ.get("EXHAUSTIVE", "0"))
FEW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # to shrink what fails takes minutes
)
MANY = settings(max_examples=max(EXAMPLES, 100), deadline=None)

EXCLUDED = "^dense/"
LEAVES = ("dense/kernel", "query/kernel", "blocks/kernel", "scale")
OPTIMIZERS = {
    "sgd": optax.sgd(0.05),
    "adamw": optax.adamw(0.02, weight_decay=0.1),
    "lion": optax.lion(0.03),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
}


# Each setting with one of them; the method itself with all.
RUNS = [("ftp", optimizer) for optimizer in OPTIMIZERS]
RUNS += zip(
    (name for name in methods.METHODS if name not in ("ftp", "ftp, stacked")),
    itertools.cycle(OPTIMIZERS),
)


@functools.cache
def transformation(name, optimizer):
    options = {"exclude": EXCLUDED}
    if "l2_sp" not in name:  # which knows no rows
        options["axes"] = layouts.AXES
    return methods.build(name, OPTIMIZERS[optimizer], **options)


def drawn(seed, dtype, scale, dead, zero, steps):
    """Params, and gradients of this scale of which some leaves get none."""
    params = trees.random_tree(layouts.shapes(LEAVES), seed, dtype)
    factor = lambda path: zero if trees.path_of(path) in dead else scale
    return params, [
        jax.tree_util.tree_map_with_path(lambda path, x: x * factor(path), g)
        for g in trees.gradients(params, steps, seed + 1)
    ]


@pytest.mark.parametrize(("name", "optimizer"), RUNS)
@(MANY if EXAMPLES else FEW)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    dead=st.sets(st.sampled_from(LEAVES), max_size=2),
    zero=st.sampled_from([0.0, -0.0]),
    steps=st.integers(2, 3),
)
def test_every_step_keeps_what_the_method_promises(name, optimizer, dtype, **run):
    if name == "ftp, implicit":
        dtype = "float32"  # it takes no narrower params
    anchor, grads = drawn(dtype=dtype, **run)
    tx, base = transformation(name, optimizer), OPTIMIZERS[optimizer]
    params, state = anchor, tx.init(anchor)
    plain, plain_state = anchor, base.init(anchor)
    for g in grads:
        before = params, state
        # Operation by operation: compiled as another program, what the base optimizer
        # does to an excluded leaf may round otherwise.
        params, state = trees.step_of(tx, jit=False)(params, state, g)
        own, _ = base.update(g, base_state(name, before[1]), before[0])
        plain, plain_state = trees.step_of(base, jit=False)(plain, plain_state, g)
        assert_like(params, anchor)
        assert_like(state, before[1])
        assert_finite((params, state))
        if base_takes_gradients(name, optimizer):
            trees.assert_same(params["dense"], plain["dense"])
        assert_within_radii(name, params, state, anchor, before[0], own)
        # In a narrower dtype the optimizer's own step differs, and whether a row that
        # is as long as its radius counts as active turns on a rounding.
        if dtype == "float32" and name != "ftp, active":
            assert_near(trees.step_of(tx)(*before, g), (params, state))


def base_state(name, state):
    return state[methods.METHODS[name].place == "before"]


def base_takes_gradients(name, optimizer):
    """Whether what is excluded sees nothing of what a method does to other leaves.

    Clipping by the norm of all the gradients does.
    """
    return optimizer != "clipped" or methods.METHODS[name].place != "before"


def assert_like(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert jnp.all(jnp.isfinite(leaf))


def assert_near(compiled, eager):
    """Equality to 64 roundings of the largest entry, and to a unit of what is int8."""
    pairs = zip(trees.flat(compiled).items(), trees.flat(eager).values(), strict=True)
    for (name, a), b in pairs:
        narrow = jnp.issubdtype(b.dtype, jnp.integer)
        unit = 1.0 if narrow else 64 * float(jnp.finfo(b.dtype).eps)
        size = 1.0 if narrow else np.max(np.abs(np.float64(b)), initial=1e-8)
        difference = np.max(np.abs(np.float64(a) - np.float64(b)), initial=0.0)
        assert difference <= unit * size, name


def radii_of(name, state):
    """The radius of each leaf (layer) in tree order; `None`: the method has none."""
    (own,) = [s for s in state if isinstance(s, FTPState | TPGMState)] or [None]
    if name == "mars_pgm":
        return np.full(4, methods.METHODS[name].arguments["radius"])
    return None if own is None else np.float64(own.radii)


def assert_within_radii(name, params, state, anchor, before, step):
    """Rows longer than the radius are shortened to it, the others as they were."""
    if (radii := radii_of(name, state)) is None:
        return
    arguments = methods.METHODS[name].arguments
    keys = sorted(key for key in layouts.matrices(anchor) if "dense" not in key[0])
    after, w, w0, u = map(layouts.matrices, (params, before, anchor, step))
    eps = {k: float(jnp.finfo(x.dtype).eps) for k, x in trees.flat(params).items()}
    for key, radius in zip(keys, radii, strict=True):
        origin = w0[key] * (arguments.get("anchor") != 0.0)
        c = w[key] + u[key] - origin
        norms = [size(row, arguments) for row in rows(c, arguments)]
        sizes = np.abs(w[key]) + np.abs(u[key]) + np.abs(origin) + np.abs(after[key])
        # Of the params before, of the step, of the update and of their sum.
        rounding = eps[key[0]] * sizes.sum() + 1e-8
        if name.startswith("ftp"):
            assert 1e-8 * (1 - 1e-6) <= radius <= max(norms) + rounding + 2e-8
        held = np.minimum(1.0, radius / np.maximum(norms, 1e-30)).reshape(-1, 1) * c
        np.testing.assert_allclose(
            after[key] - origin, held, rtol=1e-5, atol=rounding, err_msg=str(key)
        )


def rows(c, arguments):
    return [c] if arguments.get("norm") == "frobenius" else list(c[:, None])


def size(row, arguments):
    return NORMS[arguments.get("norm", "mars")](row)
