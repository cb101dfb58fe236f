"""How far each leaf has moved from its pre-trained value, and how far it may."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.methods import Params
from ftp_optax import FTPState, TPGMState, radii, summary, with_ftp

Named = dict[str, jax.Array]  # path -> float32 scalar


@jax.jit
def observe(start: Params, params: Params, method: Any) -> dict[str, Named]:
    """Drift of every leaf, and what its radius does where the method has radii.

    Args:
      start: the pre-trained params.
      params: the same now.
      method: the method's state.

    Returns:
      `drift`: the largest L1 norm of a row of the change; `radius`: the bound on it;
      `bound`: the share of rows that the last step had to shorten, in [0, 1]. The last
      two are empty for methods that learn no radius, and lack the leaves left alone.
    """
    leaves = summary(with_ftp(optax.identity()).init(start), params)
    found = {"drift": {k: leaf.drift for k, leaf in leaves.items()}}
    found |= {"radius": {}, "bound": {}}
    if _holds(method, FTPState):
        leaves = summary(method, params)
        found["radius"] = {k: leaf.radius for k, leaf in leaves.items()}
        found["bound"] = {k: leaf.bound for k, leaf in leaves.items()}
    elif _holds(method, TPGMState):
        found["radius"] = radii(method, params)
    return found


@jax.jit
def norms(start: Params) -> Named:
    """The largest L1 norm of a row of each leaf, to set the drift in relation."""
    zeros = jax.tree.map(jnp.zeros_like, start)
    leaves = summary(with_ftp(optax.identity()).init(zeros), start)
    return {name: leaf.drift for name, leaf in leaves.items()}


def _holds(state: Any, kind: type) -> bool:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return any(isinstance(node, kind) for node in nodes)
