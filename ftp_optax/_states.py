"""Finding the states of this library in the state of any optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _axes, _checks, _paths, _radius
from ftp_optax._anchored import AnchorState
from ftp_optax._digrap import DiGraPState
from ftp_optax._ftp import FTPState
from ftp_optax._tpgm import TPGMState

ANCHORED = (FTPState, AnchorState, DiGraPState, TPGMState)  # all have an anchor
WITH_RADII = (FTPState, TPGMState)


def find(state: optax.OptState, *types: type) -> list[Any]:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, types))
    found = [node for node in nodes if isinstance(node, types)]
    if not found:
        expected = " or ".join(kind.__name__ for kind in types)
        raise ValueError(
            f"state: it holds no {expected}; expected the state of an optimizer that"
            f" has one, got {type(state)!r}."
        )
    return found


def map_states(function: Callable[[Any], Any], state: optax.OptState) -> Any:
    """The state with `function` of each state of this library in it."""
    find(state, *ANCHORED)
    return jax.tree.map(
        lambda node: function(node) if isinstance(node, ANCHORED) else node,
        state,
        is_leaf=lambda node: isinstance(node, ANCHORED),
    )


def belonging(
    kept: Any, params: optax.Params, argument: str = "params"
) -> dict[str, Any]:
    """The params by name, refused unless every leaf of a kept tree is among them."""
    names, leaves, _ = _paths.flatten_with_names(params)
    current = dict(zip(names, leaves, strict=True))
    for name, leaf in zip(*_paths.flatten_with_names(kept)[:2], strict=True):
        if name not in current or jnp.shape(current[name]) != jnp.shape(leaf):
            raise ValueError(
                f"{argument}: the state was made for a leaf {name!r} of shape"
                f" {jnp.shape(leaf)}, which they lack; their leaves are"
                f" {_paths.listed(names)}."
            )
    return current


def vector(state: FTPState | TPGMState) -> jax.Array:
    # Under nnx.Optimizer every array of the state sits in a variable.
    (vector,) = jax.tree.leaves(state.radii)
    return vector


def radii_of(
    state: FTPState | TPGMState, params: optax.Params, axes: _axes.Axes
) -> tuple[list[_axes.Geometry], list[jax.Array]]:
    # FTP's displacement is there even where its anchor was dropped, or is implicit.
    kept = state.displacement if isinstance(state, FTPState) else state.anchor
    _checks.refuse_dropped(jax.tree.leaves(kept))
    belonging(kept, params)
    names, leaves, _ = _paths.flatten_with_names(kept)
    geometries = [g for g in _axes.resolve(axes, names, leaves) if g is not None]
    gammas = vector(state)
    expected = sum(geometry.num_radii for geometry in geometries)
    if gammas.shape != (expected,) or len(geometries) != len(names):
        raise ValueError(
            f"axes: the state holds {gammas.size} radii, and these axes make"
            f" {expected}. Pass the axes that were given to ftp."
        )
    return geometries, _radius.split(gammas, geometries)
