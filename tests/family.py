"""The relatives of FTP that are gradient transformations, each with one setting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftp_optax import digrap, l2_sp, mars_pgm, mars_sp, spd, with_spd

SGD = optax.sgd(0.1, 0.9)

# Its function, its arguments, and whether it stands before the optimizer.
FAMILY = {
    "l2_sp": (l2_sp, {"strength": 0.3}, True),
    "l2_sp decoupled": (l2_sp, {"strength": 0.3, "decoupled": True}, False),
    "mars_sp": (mars_sp, {"strength": 0.3}, True),
    "mars_pgm": (mars_pgm, {"radius": 0.1}, False),
    "spd": (spd, {"strength": 1.0}, False),
    "digrap": (digrap, {"initial_omega": 0.5}, True),
}
each = pytest.mark.parametrize("name", FAMILY)


def link(name, **options):
    function, arguments, _ = FAMILY[name]
    return function(**arguments, **options)


@functools.cache
def optimizer(name, exclude=None):
    return build(name, exclude=exclude)


def build(name, wrap=lambda function: function, **options):
    """The method with SGD, `wrap` applied to the function that makes it."""
    function, arguments, before = FAMILY[name]
    if function is spd:
        return wrap(with_spd)(SGD, **arguments, **options)
    own = wrap(function)(**arguments, **options)
    return optax.chain(*((own, SGD) if before else (SGD, own)))


def pretrained(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    return {
        "body": {"bias": draw(4), "kernel": draw(3, 4)},
        "head": {"kernel": draw(4, 2)},
    }


def gradients(params, steps, seed=1):
    """A pull that turns round half-way, under noise."""
    rng = np.random.default_rng(seed)
    leaves, treedef = jax.tree.flatten(params)
    pulls = [rng.normal(size=np.shape(leaf)) for leaf in leaves]
    drawn = []
    for t in range(steps):
        sign = 1.0 if t < steps / 2 else -1.0
        g = [sign * pull + 0.3 * rng.normal(size=pull.shape) for pull in pulls]
        g = [
            jnp.asarray(x, jnp.result_type(leaf))
            for x, leaf in zip(g, leaves, strict=True)
        ]
        drawn.append(jax.tree.unflatten(treedef, g))
    return drawn


def moved(params):
    """The params some way from where they were."""
    (step,) = gradients(params, 1, seed=3)
    return jax.tree.map(lambda w, s: w + 0.3 * s, params, step)


def outward(name, params, anchor):
    """What the link of a method is given, such that there is something to do to it.

    Updates that lead away from the anchor, or gradients of which descent does; and a
    gradient that calls back, for the one method that asks.
    """
    (noise,) = gradients(params, 1, seed=4)
    sign = -1.0 if FAMILY[name][2] else 1.0
    u = jax.tree.map(
        lambda w, w0, e: (sign * (w - w0) + 0.1 * e).astype(e.dtype),
        params,
        anchor,
        noise,
    )
    grad = jax.tree.map(
        lambda w, w0, e: (w - w0).astype(e.dtype), params, anchor, noise
    )
    return u, ({"grad": grad} if FAMILY[name][0] is spd else {})


def one_update(name, tx, params, anchor, start=None):
    """The updates of a first step at `params`, of a state made at `start`."""
    u, extra = outward(name, params, anchor)
    state = tx.init(anchor if start is None else start)
    return jax.jit(tx.update)(u, state, params, **extra)[0]
