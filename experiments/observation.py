"""How far each leaf has moved from its pre-trained value, and how far it may."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.methods import Params, leaf_path
from ftp_optax import FTPState, TPGMState, leaf_axes, radii, summary

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
    change = jax.tree.map(jnp.subtract, params, start)
    found: dict[str, Named] = {"drift": norms(change), "radius": {}, "bound": {}}
    if _holds(method, FTPState):
        leaves = summary(method, params)
        found["radius"] = {k: leaf.radius for k, leaf in leaves.items()}
        found["bound"] = {k: leaf.bound for k, leaf in leaves.items()}
    elif _holds(method, TPGMState):
        found["radius"] = radii(method, params)
    return found


@jax.jit
def norms(params: Params) -> Named:
    """The largest L1 norm of a row of each leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    by_path = {leaf_path(path): leaf for path, leaf in leaves}
    largest = {}
    for path, axes in leaf_axes(params).items():
        rows = axes.rows
        assert isinstance(rows, tuple)
        within = tuple(a for a in range(by_path[path].ndim) if a not in rows)
        largest[path] = jnp.max(jnp.sum(jnp.abs(by_path[path]), axis=within))
    return largest


def _holds(state: Any, kind: type) -> bool:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return any(isinstance(node, kind) for node in nodes)
