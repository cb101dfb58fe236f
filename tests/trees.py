"""Trees of params and of gradients, runs on them, and how two are compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

# ---- What runs are made of ---------------------------------------------------------


def random_tree(shapes, seed=0, dtype=jnp.float32):
    """Normal weights; `shapes` is a tree of tuples."""
    rng = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(rng.normal(size=shape), dtype)
    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def gradients(params, steps, seed=1, pull=1.0):
    """A pull one way for two thirds of the steps, then back, under noise.

    Radii that follow these move both ways.
    """
    rng = np.random.default_rng(seed)
    leaves, treedef = jax.tree.flatten(params)
    pulls = [pull * rng.normal(size=np.shape(leaf)) for leaf in leaves]
    drawn = []
    for t in range(steps):
        sign = 1.0 if t < 2 * steps / 3 else -1.0
        g = [
            jnp.asarray(
                sign * mean + 0.5 * rng.normal(size=mean.shape), jnp.result_type(leaf)
            )
            for mean, leaf in zip(pulls, leaves, strict=True)
        ]
        drawn.append(jax.tree.unflatten(treedef, g))
    return drawn


def moved(params, by=0.3):
    """The params some way from where they were."""
    (step,) = gradients(params, 1, seed=3)
    return jax.tree.map(lambda w, s: w + by * s, params, step)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# ---- Runs --------------------------------------------------------------------------


@functools.cache
def step_of(tx, grad=False, jit=True):
    """One step on a given gradient, which `grad` hands on; compiled once."""

    def step(params, state, g):
        extra = {"grad": g} if grad else {}
        updates, state = tx.update(g, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step) if jit else step


def steps(tx, params, grads, state=None, **flags):
    """Params and state after each step of `tx` on the given gradients."""
    state = tx.init(params) if state is None else state
    for g in grads:
        params, state = step_of(tx, **flags)(params, state, g)
        yield params, state


def run(tx, params, grads, state=None, **flags):
    """The params after each step, and the last state."""
    pairs = list(steps(tx, params, grads, state, **flags))
    return [params for params, _ in pairs], pairs[-1][1]


def feed(tx, params, grads, state=None, **flags):
    """Params and state after all the steps."""
    state = tx.init(params) if state is None else state
    return [(params, state), *steps(tx, params, grads, state, **flags)][-1]


# ---- Comparisons -------------------------------------------------------------------


def path_of(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def by_name(tree):
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(keys): leaf for keys, leaf in pairs}


def flat(tree):
    return {name: np.asarray(leaf) for name, leaf in by_name(tree).items()}


def assert_close(actual, expected, rtol=1e-6, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        assert a.dtype == b.dtype, name
        np.testing.assert_allclose(
            np.float64(a), np.float64(b), rtol=rtol, atol=atol, err_msg=name
        )


def assert_same(actual, expected):
    """Equality of trees, dtypes and bits: 0.0 is not -0.0."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        assert a.dtype == b.dtype, name
        assert a.tobytes() == b.tobytes(), f"{name}: {a} is not {b}"


def farthest(a, b):
    """The largest difference of two entries."""
    pairs = zip(flat(a).values(), flat(b).values(), strict=True)
    return max(np.max(np.abs(x - y), initial=0.0) for x, y in pairs)


def is_weight(leaf):
    """Whether an array has the size of weights, and not of radii or counts."""
    return leaf.ndim > 1 and jnp.issubdtype(leaf.dtype, jnp.floating)


def pointers(tree):
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]
