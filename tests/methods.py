"""Every method of the library: what each test of all of them runs over."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from ftp_optax import (
    digrap,
    flax_axes,
    ftp,
    l2_sp,
    mars_pgm,
    mars_sp,
    spd,
    tpgm,
    with_ftp,
    with_spd,
)
from trees import random_tree

SGD = optax.sgd(0.1, 0.9)
SHAPES = {
    "body": {"bias": (5,), "kernel": (3, 5)},
    "head": {"bias": (2,), "kernel": (5, 2)},
}


class Method(NamedTuple):
    """A method in one setting; its function makes a link, around or beside SGD."""

    function: Callable[..., Any]
    place: str  # "before" or "after" the optimizer, "around" it, or "beside": tpgm
    arguments: dict[str, Any]


FTP = {
    "ftp": {},
    "ftp, active": {"norm": "frobenius", "hypergradient": "active"},
    "ftp, anchor 0": {"anchor": 0.0, "initial_radius": 2.0},
    "ftp, bfloat16": {"displacement_dtype": "bfloat16"},
    "ftp, int8": {"displacement_dtype": "int8"},
    "ftp, implicit": {"anchor": "implicit"},
    "ftp, host": {"anchor_memory": "pinned_host"},
    "ftp, stacked": {"axes": functools.partial(flax_axes, scanned="body")},
}
METHODS = {name: Method(with_ftp, "around", options) for name, options in FTP.items()}
METHODS |= {
    "l2_sp": Method(l2_sp, "before", {"strength": 0.3}),
    "l2_sp, decoupled": Method(l2_sp, "after", {"strength": 0.3, "decoupled": True}),
    "mars_sp": Method(mars_sp, "before", {"strength": 0.3}),
    "mars_sp, decoupled": Method(
        mars_sp, "after", {"strength": 0.3, "decoupled": True, "norm": "frobenius"}
    ),
    "mars_pgm": Method(mars_pgm, "after", {"radius": 0.1}),
    "spd": Method(with_spd, "around", {"strength": 1.0}),
    "digrap": Method(digrap, "before", {"initial_omega": 0.5}),
    "tpgm": Method(tpgm, "beside", {}),
}
LINKS = {with_ftp: ftp, with_spd: spd}
# One setting of each function that is a gradient transformation.
DISTINCT = [name for name in METHODS if "," not in name and name != "tpgm"]

each = pytest.mark.parametrize("name", METHODS)
each_distinct = pytest.mark.parametrize("name", DISTINCT)


def pretrained(dtype="float32"):
    return random_tree(SHAPES, 0, dtype)


def link(name, **options):
    """The method alone, without an optimizer."""
    function, _, arguments = METHODS[name]
    return LINKS.get(function, function)(**{**arguments, **options})


def takes_grad(name):
    return METHODS[name].function in LINKS


def build(name, optimizer=SGD, wrap=lambda function: function, **options):
    """The method with an optimizer; `wrap` is applied to its function."""
    function, place, arguments = METHODS[name]
    arguments = {**arguments, **options}
    if place == "around":
        return wrap(function)(optimizer, **arguments)
    if place == "beside":
        return in_a_loop(function(**arguments), optimizer)
    own = wrap(function)(**arguments)
    return optax.chain(*((own, optimizer) if place == "before" else (optimizer, own)))


@functools.cache
def optimizer(name, exclude=None):
    """`build`, once: what is compiled for it is compiled once."""
    return build(name, exclude=exclude)


def in_a_loop(method, optimizer):
    """A method beside the optimizer, as a transformation: to run it as the others are.

    The gradient of its held-out loss is that of the step.
    """

    def init(params):
        return optimizer.init(params), method.init(params)

    def update(g, state, params):
        u, inner = optimizer.update(g, state[0], params)
        after = optax.apply_updates(params, u)
        held_out = lambda p: jnp.float32(optax.tree.vdot(p, g))
        own = method.update(state[1], after, held_out)
        projected = method.project(after, own)
        # What is as the optimizer left it takes the optimizer's step to the bit.
        return jax.tree.map(
            lambda step, left, new, old: step if left is new else new - old,
            u,
            after,
            projected,
            params,
        ), (inner, own)

    return optax.GradientTransformation(init, update)


def outward(name, params, anchor):
    """What the link of a method is given, such that there is something to do to it.

    Updates that lead away from the anchor, or gradients of which descent does; and a
    gradient that calls back, for those that ask.
    """
    noise = random_tree(jax.tree.map(lambda w: w.shape, params), 4)
    sign = -1.0 if METHODS[name].place == "before" else 1.0
    u = jax.tree.map(
        lambda w, w0, e: (sign * (w - w0) + 0.1 * e).astype(w.dtype),
        params,
        anchor,
        noise,
    )
    grad = jax.tree.map(lambda w, w0: w - w0, params, anchor)
    return u, ({"grad": grad} if takes_grad(name) else {})


def one_update(name, tx, params, anchor, start=None):
    """The updates of a first step at `params`, of a state made at `start`."""
    u, extra = outward(name, params, anchor)
    state = tx.init(anchor if start is None else start)
    return jax.jit(tx.update)(u, state, params, **extra)[0]
