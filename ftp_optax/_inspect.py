"""Reading radii and drift by name in any optimizer state."""

import math
from collections.abc import Iterator
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ftp_optax import (
    _axes,
    _checks,
    _devices,
    _displacement,
    _leaves,
    _projection,
    _states,
)
from ftp_optax._ftp import FTPState


class LeafSummary(NamedTuple):
    """How one leaf stands to its radius; for stacked leaves, one value per layer.

    Attributes:
      radius: gamma.
      drift: the largest row norm of the params' displacement from the anchor; at most
        `radius`, up to rounding.
      bound: the share of rows, in [0, 1], that the last step had to shorten; with an
        int8 displacement, that lie at the radius.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import ftp, summary
      >>> params = {"w": jnp.ones(2)}
      >>> summary(ftp().init(params), params)["w"].drift.item()
      0.0
    """

    radius: jax.Array
    drift: jax.Array
    bound: jax.Array


def radii(
    state: optax.OptState, params: optax.Params, *, axes: _axes.Axes = None
) -> dict[str, jax.Array]:
    """The radius of each constrained leaf by its path.

    Args:
      state: any optimizer state that holds an `FTPState`, however chained, masked,
        partitioned or wrapped; that of `nnx.Optimizer` too. Or a `TPGMState`.
      params: the params the state belongs to.
      axes: as given to `ftp` or `tpgm`; needed only if it names stacked layers.

    Returns:
      {path: float32 radius}, of shape () or, for a stacked leaf, that of its layers.

    Raises:
      ValueError: there is no such state, or it does not belong to `params` and `axes`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import radii, with_ftp
      >>> params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros((3,))}}
      >>> tx = optax.chain(optax.clip(1.0), with_ftp(optax.adamw(1e-4)))
      >>> for path, radius in radii(tx.init(params), params).items():
      ...     print(path, radius)
      dense/bias 1e-08
      dense/kernel 1e-08
    """
    found = {}
    for node in _states.find(state, *_states.WITH_RADII):
        geometries, gammas = _states.radii_of(node, params, axes)
        for geometry, gamma in zip(geometries, gammas, strict=True):
            found[geometry.name] = gamma.reshape(geometry.layer_shape)
    return found


def summary(
    state: optax.OptState,
    params: optax.Params,
    *,
    axes: _axes.Axes = None,
    norm: _projection.Norm = "mars",
) -> dict[str, LeafSummary]:
    """Radius, drift and share of bound rows of each constrained leaf, by its path.

    Args:
      state: any optimizer state that holds an `FTPState`, as `radii` finds it.
      params: the params the state belongs to.
      axes: as given to `ftp`.
      norm: as given to `ftp`.

    Returns:
      {path: `LeafSummary`}.

    Raises:
      ValueError: there is no `FTPState`, or it does not belong to `params` and `axes`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import summary, with_ftp
      >>> params = {"kernel": jnp.ones((2, 3))}
      >>> tx = with_ftp(optax.sgd(0.1))
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update({"kernel": jnp.ones((2, 3))}, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> leaf = summary(state, params)["kernel"]
      >>> print(f"{leaf.radius:.4f} {leaf.drift:.4f} {leaf.bound:.0%}")
      0.0074 0.0074 100%
    """
    found = {}
    for ftp_state in _states.find(state, FTPState):
        for leaf in _standing(ftp_state, params, axes, norm):
            drift = _projection.row_norms(leaf.w - leaf.w0, leaf.geometry, norm)
            if _displacement.is_int8(leaf.c.dtype):
                # The norm of the step is not kept; rows that were shortened lie at
                # the radius, to the rounding of the params.
                size = _projection.norms(leaf.w, leaf.geometry, norm)
                over = _projection.measured_over(leaf.geometry, norm)
                moved = jnp.any(leaf.c != 0, axis=over, keepdims=True)
                bound = moved & (drift >= leaf.gamma - leaf.rounding * size)
            else:
                bound = leaf.gamma < _projection.row_norms(leaf.c, leaf.geometry, norm)
            rest = _projection.beside_layers(leaf.geometry)
            found[leaf.geometry.name] = LeafSummary(
                radius=leaf.gamma.reshape(leaf.geometry.layer_shape),
                drift=_projection.largest(drift, leaf.geometry) - _projection.EPS,
                bound=_share(bound, rest),
            )
    return found


def anchor_drift(
    state: optax.OptState,
    params: optax.Params,
    pretrained: optax.Params,
    *,
    axes: _axes.Axes = None,
    norm: _projection.Norm = "mars",
) -> dict[str, jax.Array]:
    """How far the anchor is from the pre-trained weights, by path.

    An implicit anchor is where the displacement leads back to, and moves by a rounding
    error a step, as a random walk: after 20,000 steps by some hundred times the spacing
    of float32 at the weight, 1e-5 for weights just below 1, 2e-6 for weights of 0.1.
    More than that says that something else moved the params. An anchor that is kept
    does not move.

    Args:
      state: as given to `summary`.
      params: the params the state belongs to.
      pretrained: the params that were given to `init`, or the tree given as `anchor`.
      axes: as given to `ftp`.
      norm: as given to `ftp`.

    Returns:
      {path: the largest difference of a weight, shape ()}, in float32 or wider.

    Raises:
      ValueError: as `summary` does; or `pretrained` lacks a leaf.

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
    found = {}
    for ftp_state in _states.find(state, FTPState):
        before = _states.belonging(ftp_state.displacement, pretrained, "pretrained")
        for leaf in _standing(ftp_state, params, axes, norm):
            w0 = jnp.asarray(before[leaf.geometry.name]).astype(leaf.w0.dtype)
            found[leaf.geometry.name] = jnp.max(jnp.abs(leaf.w0 - w0), initial=0.0)
    return found


def _share(bound: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The share that is true; 0 of no rows."""
    count = math.prod(bound.shape[axis] for axis in axes)
    return jnp.sum(bound, axis=axes) / max(1, count)


class _Standing(NamedTuple):
    """How one leaf stands to its anchor; arrays in the dtype of the arithmetic."""

    geometry: _axes.Geometry
    w: jax.Array
    w0: jax.Array  # kept, or implied
    c: jax.Array  # the last displacement; as kept, if in int8
    gamma: jax.Array
    rounding: float  # of the params, relative


def _standing(
    state: FTPState, params: optax.Params, axes: _axes.Axes, norm: _projection.Norm
) -> Iterator[_Standing]:
    _checks.choice("norm", norm, get_args(_projection.Norm))
    geometries, gammas = _states.radii_of(state, params, axes)
    current = _states.belonging(state.displacement, params)
    displacements = jax.tree.leaves(state.displacement)
    anchors = jax.tree.leaves(state.anchor) or [None] * len(geometries)
    _checks.refuse_dropped(jax.tree.leaves(state.anchor))
    for geometry, gamma, w0, c in zip(
        geometries, gammas, anchors, displacements, strict=True
    ):
        w = jnp.asarray(current[geometry.name])
        rounding = float(jnp.finfo(w.dtype).eps)
        w = w.astype(_leaves.compute_dtype(w))
        if not _displacement.is_int8(c.dtype):
            c = c.astype(w.dtype)
        if w0 is None:
            n = _projection.row_norms(c, geometry, norm)
            w0 = w - _projection.kept(gamma, n) * c
        else:
            w0 = _devices.to_device(w0).astype(w.dtype)
        yield _Standing(geometry, w, w0, c, gamma.astype(w.dtype), rounding)
