"""Where params stand to their anchor, in any state: checked, measured, begun anew."""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import (
    _anchor,
    _devices,
    _inspect,
    _leaves,
    _paths,
    _projection,
    _radii,
)
from ftp_optax._anchor import AnchorState
from ftp_optax._axes import Geometry
from ftp_optax._digrap import DiGraPState
from ftp_optax._ftp import FTPState
from ftp_optax._tpgm import TPGMState

_KINDS = (FTPState, AnchorState, DiGraPState, TPGMState)


def reset_anchor(state: optax.OptState, params: optax.Params) -> optax.OptState:
    """Makes `params` the new anchor, and leaves the base optimizer as it is.

    For the next task of a sequence, or for weights that were loaded after `init`. FTP's
    radii, the state of their optimizer, and the step count of kappa's schedule start
    anew; of an `AnchorState` only the anchor changes.

    Args:
      state: any optimizer state that holds an `FTPState` or an `AnchorState`.
      params: the new anchor, copied; it must have all constrained leaves.

    Returns:
      A state of the same structure, shapes and dtypes: assign it, `state =
      reset_anchor(state, params)`. An `nnx.Optimizer`, or a module that holds one, is
      updated in place, as its own `update` does, and returned.

    Raises:
      ValueError: `params` lack a leaf; the anchor's dtype would round them; or the
        state is one of `digrap` or `tpgm`, which take a new anchor only from `init`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import reset_anchor, with_ftp
      >>> tx = with_ftp(optax.adamw(1e-4))
      >>> state = tx.init({"kernel": jnp.zeros((2, 3))})
      >>> loaded = {"kernel": jnp.ones((2, 3))}
      >>> state = reset_anchor(state, loaded)
      >>> print(optax.tree.get(state, "anchor")["kernel"][0])
      [1. 1. 1.]
    """
    _inspect.find(state, *_KINDS)

    def reset(node: Any) -> Any:
        if isinstance(node, DiGraPState | TPGMState):
            raise ValueError(
                f"state: it holds a {type(node).__name__}, and what that has learned"
                " belongs to the old anchor. Call init of its transformation."
            )
        if isinstance(node, AnchorState):
            return node._replace(anchor=_renewed(node.anchor, params))
        if isinstance(node, FTPState):
            return _restarted(node, params)
        return node

    new = jax.tree.map(reset, state, is_leaf=lambda node: isinstance(node, _KINDS))
    # Whoever holds an nnx.Optimizer has imported flax.nnx.
    nnx: Any = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(state, nnx.Optimizer | nnx.Module):
        nnx.update(state, nnx.state(new))
        return state
    return new


def check_anchor(state: optax.OptState, params: optax.Params) -> None:
    """Raises unless the params are where the anchor allows them to be.

    Call it right before the training loop, at the first start and after a resume. The
    anchor is what `init` saw: the first step silently discards weights that are loaded
    later, or an adapter that does not start at `anchor=0.0`. It cannot check an
    implicit anchor, nor notice a new state made for params that were already trained.

    Args:
      state: any optimizer state that holds an `FTPState`, as `radii` finds it; or, up
        to the first step, an `AnchorState` or a `DiGraPState`.
      params: the params with which training begins or continues; an nnx model too.

    Raises:
      ValueError: before the first step, the params differ from the anchor; after it,
        they are farther from it than their radius, beyond rounding (the farthest leaf
        is named); there is no such state, or it lacks its anchor; or it is called under
        `jit`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import check_anchor, with_ftp
      >>> state = with_ftp(optax.adamw(1e-4)).init({"kernel": jnp.zeros((2, 3))})
      >>> check_anchor(state, {"kernel": jnp.zeros((2, 3))})
      >>> check_anchor(state, {"kernel": jnp.ones((2, 3))})
      Traceback (most recent call last):
      ValueError: params: the leaf 'kernel' is up to 1 from its anchor, ...
    """
    farthest = None
    for node in _inspect.find(state, FTPState, AnchorState, DiGraPState):
        for name, distance, allowed in _distances(node, params):
            is_farther = farthest is None or not distance <= farthest[1]
            if not distance <= allowed and is_farther:
                farthest = (name, distance, allowed)
    if farthest is not None:
        name, distance, allowed = farthest
        raise ValueError(
            f"params: the leaf {name!r} is up to {distance:.3g} from its anchor, and"
            f" {allowed:.3g} is allowed by now. The anchor is what init saw. Load"
            " pre-trained weights before it, or call state = reset_anchor(state,"
            " params) after; restore the optimizer's state with the params of a run"
            " that goes on; exclude leaves that start elsewhere on purpose (a new head;"
            " lora_a beside anchor=0.0)."
        )


def anchor_drift(
    state: optax.OptState, params: optax.Params, pretrained: optax.Params
) -> dict[str, jax.Array]:
    """How far the anchor is from the pre-trained weights, by path.

    An implicit anchor moves by a rounding error a step, as a random walk: after 20,000
    steps by some hundred times the spacing of float32 at the weight, 1e-5 for weights
    just below 1, 2e-6 for weights of 0.1. If it moved further, something else moved the
    params. An explicit anchor does not move.

    Args:
      state: as given to `summary`.
      params: the params the state belongs to.
      pretrained: the params that training began with.

    Returns:
      {path: the largest difference of a weight, shape ()}, in float32 or wider.

    Raises:
      ValueError: as `summary` does; or `pretrained` lacks a leaf; or it is called under
        `jit`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import anchor_drift, with_ftp
      >>> pretrained = {"kernel": jnp.ones((2, 3))}
      >>> tx = with_ftp(optax.sgd(0.1), anchor="implicit")
      >>> params, state = pretrained, tx.init(pretrained)
      >>> for _ in range(9):
      ...     updates, state = tx.update({"kernel": jnp.ones((2, 3))}, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(anchor_drift(state, params, pretrained)["kernel"] < 1e-6)
      True
    """
    drifts: dict[str, jax.Array] = {}
    for node in _inspect.find(state, FTPState):
        before = _inspect.belonging(node.displacement, pretrained, "pretrained")
        for leaf in _standing(node, params):
            _inspect.refuse_second(drifts, leaf.geometry.name)
            w0 = jnp.asarray(before[leaf.geometry.name]).astype(leaf.w0.dtype)
            drifts[leaf.geometry.name] = jnp.max(jnp.abs(leaf.w0 - w0), initial=0.0)
    return drifts


# ---- A new anchor ------------------------------------------------------------------


def _restarted(state: FTPState, params: optax.Params) -> FTPState:
    """The state as `init` makes it of these params."""
    _refuse_lost(state.anchor)
    _inspect.belonging(state.displacement, params)
    started = (state.radii, state.radius_state)
    initial = map(jnp.array, jax.tree.leaves(state.initial))  # buffers of their own
    radii, radius_state = jax.tree.unflatten(jax.tree.structure(started), initial)
    zeros = lambda tree: jax.tree.map(_devices.zeros_like, tree)
    return state._replace(
        anchor=_renewed(state.anchor, params),
        radii=radii,
        radius_state=radius_state,
        displacement=zeros(state.displacement),
        step=zeros(state.step),
        norms=zeros(state.norms),
        bound=zeros(state.bound),
        first_norms=zeros(state.first_norms),
    )


def _renewed(anchor: Any, params: optax.Params) -> Any:
    """Copies of the params in the places, dtypes and memory of the anchor's leaves."""
    current = _inspect.belonging(anchor, params)
    names, leaves, treedef = _paths.flatten_with_names(anchor)
    pairs = zip(names, leaves, strict=True)
    copies = [_anchor.replaced(name, leaf, current[name]) for name, leaf in pairs]
    return jax.tree.unflatten(treedef, copies)


# ---- Standing to the anchor --------------------------------------------------------


class _Standing(NamedTuple):
    """How one leaf stands to its anchor; arrays in the dtype of the arithmetic."""

    geometry: Geometry
    norm: _projection.Norm
    w: jax.Array
    w0: jax.Array  # kept, or implied
    gamma: jax.Array
    rounding: float  # of the params, relative


def _standing(state: FTPState, params: optax.Params) -> Iterator[_Standing]:
    described = _known(state.geometry)
    current = _inspect.belonging(state.displacement, params)
    geometries = _inspect.geometries_of(state, params)
    displacements = jax.tree.leaves(state.displacement)
    anchors = jax.tree.leaves(state.anchor) or [None] * len(geometries)
    kinds = [_projection.NORMS[kind] for kind in described[:, 2]]
    gammas = _radii.split(_inspect.array(state.radii), geometries)
    for geometry, norm, gamma, w0, c in zip(
        geometries, kinds, gammas, anchors, displacements, strict=True
    ):
        w = jnp.asarray(current[geometry.name])
        rounding = float(jnp.finfo(w.dtype).eps)
        w = w.astype(_leaves.compute_dtype(w))
        gamma = gamma.astype(w.dtype)
        if w0 is None:
            n = _projection.row_norms(c, geometry, norm)
            w0 = w - _projection.shortening(gamma, n) * c
        else:
            w0 = _devices.to_device(w0).astype(w.dtype)
        yield _Standing(geometry, norm, w, w0, gamma, rounding)


def _distances(
    state: FTPState | AnchorState | DiGraPState, params: optax.Params
) -> Iterator[tuple[str, float, float]]:
    """Of each leaf: its name, its distance from the anchor, and what is allowed."""
    _refuse_lost(state.anchor)
    if _known(state.step) == 0:
        yield from _differences(state, params)
    elif isinstance(state, FTPState) and jax.tree.leaves(state.anchor):
        for leaf in _standing(state, params):
            geometry, norm = leaf.geometry, leaf.norm
            n = _projection.norms(leaf.w - leaf.w0, geometry, norm)
            size = _projection.norms(leaf.w, geometry, norm)
            # One spacing of the params for each weight, beyond the radius.
            allowed = leaf.gamma * (1 + 1e-3) + leaf.rounding * size
            rows = np.broadcast_arrays(np.asarray(n), np.asarray(allowed))
            far = [row.ravel() for row in rows]
            if far[0].size:
                worst = int(np.argmax(far[0] - far[1]))
                yield geometry.name, float(far[0][worst]), float(far[1][worst])


def _differences(
    state: FTPState | AnchorState | DiGraPState, params: optax.Params
) -> Iterator[tuple[str, float, float]]:
    """Before the first step: the largest difference of a weight; none is allowed."""
    current = _inspect.belonging(state.anchor, params)
    names, leaves, _ = _paths.flatten_with_names(state.anchor)
    for name, leaf in zip(names, leaves, strict=True):
        w = jnp.asarray(current[name])
        w0 = _devices.to_device(leaf).astype(w.dtype)
        # Penalties pull toward a number such as 0 from anywhere.
        pulls = isinstance(state, AnchorState)
        if not (pulls and w0.size and jnp.max(w0) == jnp.min(w0)):
            difference = jnp.max(jnp.abs(w - w0), initial=0.0)
            yield name, float(_known(difference)), 0.0


def _refuse_lost(anchor: Any) -> None:
    if anchor is None:
        raise ValueError(
            "state: it was saved without its anchor. Put the one that training began"
            " with back, optax.tree.set(state, anchor=optax.tree.get(tx.init("
            'pretrained), "anchor")).'
        )


def _known(field: Any) -> np.ndarray:
    """The values of an array of a state, refused under `jit`."""
    value = _inspect.array(field)
    if isinstance(value, Tracer):
        raise ValueError("state: its values are not known under jit; call it outside.")
    return np.asarray(value)
