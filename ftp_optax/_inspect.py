"""Reading the radii by name, and taking a new anchor, in any optimizer state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _axes, _checks, _leaves, _paths, _projection, _radius
from ftp_optax._ftp import FTPState


class LeafSummary(NamedTuple):
    """How one leaf stands to its radius; for stacked leaves, one value per layer.

    Attributes:
      radius: gamma.
      drift: the largest row norm of the params' displacement from the anchor; at most
        `radius`, up to rounding.
      bound: the share of rows, in [0, 1], that the last step had to shorten.

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
        partitioned or wrapped; that of `nnx.Optimizer` too.
      params: the params the state belongs to.
      axes: as given to `ftp`; needed only if it names stacked layers.

    Returns:
      {path: float32 radius}, of shape () or, for a stacked leaf, that of its layers.

    Raises:
      ValueError: there is no `FTPState`, or it does not belong to `params` and `axes`.

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
    for ftp_state in _find(state):
        geometries, gammas = _radii_of(ftp_state, params, axes)
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
      state: see `radii`.
      params: the params the state belongs to.
      axes: as given to `ftp`.
      norm: as given to `ftp`.

    Returns:
      {path: `LeafSummary`}.

    Raises:
      ValueError: as `radii` does.

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
    for ftp_state in _find(state):
        geometries, gammas = _radii_of(ftp_state, params, axes)
        current = _by_name(params)
        anchors = jax.tree.leaves(ftp_state.anchor)
        displacements = jax.tree.leaves(ftp_state.displacement)
        for geometry, gamma, w0, c in zip(
            geometries, gammas, anchors, displacements, strict=True
        ):
            w = jnp.asarray(current[geometry.name])
            dtype = _leaves.compute_dtype(w)
            drift = _projection.row_norms(
                w.astype(dtype) - w0.astype(dtype), geometry, norm
            )
            n = _projection.row_norms(c.astype(dtype), geometry, norm)
            rest = tuple(a for a in range(n.ndim) if a not in geometry.layers)
            found[geometry.name] = LeafSummary(
                radius=gamma.reshape(geometry.layer_shape),
                drift=_projection.largest(drift, geometry) - _projection.EPS,
                bound=jnp.mean(gamma.astype(dtype) < n, axis=rest),
            )
    return found


def reset_anchor(
    state: optax.OptState,
    params: optax.Params,
    *,
    axes: _axes.Axes = None,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
) -> optax.OptState:
    """Starts FTP anew from `params`, and leaves the rest of the state as it is.

    For the next task of a sequence, and for weights that were loaded after `init`. The
    radii and the state of their optimizer become what `init` makes of `params`.

    Args:
      state: see `radii`.
      params: the new anchor, copied; same tree and shapes as before.
      axes: as given to `ftp`; needed only if it names stacked layers.
      radius_optimizer: as given to `ftp`.
      initial_radius: as given to `ftp`.

    Returns:
      A state of the same structure, shapes and dtypes.

    Raises:
      ValueError: as `radii` does; or `radius_optimizer` is not the one that made the
        state.

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
    if radius_optimizer is None:
        radius_optimizer = optax.adam(1e-2)
    _checks.transformation("radius_optimizer", radius_optimizer)
    _checks.scalar("initial_radius", initial_radius, 0.0, jnp.inf, "a number >= 0")
    _find(state)

    def reset(ftp_state: FTPState) -> FTPState:
        geometries, _ = _radii_of(ftp_state, params, axes)
        current = _by_name(params)
        anchors, treedef = jax.tree.flatten(ftp_state.anchor)
        copies = [
            jnp.array(current[geometry.name], dtype=w0.dtype)
            for geometry, w0 in zip(geometries, anchors, strict=True)
        ]
        old = _vector(ftp_state)
        fresh = radius_optimizer.init(jnp.full_like(old, initial_radius))
        old_leaves, radius_treedef = jax.tree.flatten(ftp_state.radius_state)
        new_leaves = jax.tree.leaves(fresh)
        if list(map(jnp.shape, new_leaves)) != list(map(jnp.shape, old_leaves)):
            raise ValueError(
                "radius_optimizer: its state does not have the shapes of the one in"
                " `state`. Expected the transformation that was given to ftp."
            )
        return FTPState(
            anchor=jax.tree.unflatten(treedef, copies),
            radii=jax.tree.map(
                lambda old: jnp.full_like(old, initial_radius), ftp_state.radii
            ),
            radius_state=jax.tree.unflatten(radius_treedef, new_leaves),
            displacement=jax.tree.map(jnp.zeros_like, ftp_state.displacement),
        )

    return _map_ftp_states(reset, state)


def _is_ftp_state(node: Any) -> bool:
    return isinstance(node, FTPState)


def _map_ftp_states(f: Callable[[FTPState], FTPState], state: Any) -> Any:
    return jax.tree.map(
        lambda node: f(node) if _is_ftp_state(node) else node,
        state,
        is_leaf=_is_ftp_state,
    )


def _find(state: optax.OptState) -> list[FTPState]:
    nodes = jax.tree.leaves(state, is_leaf=_is_ftp_state)
    found = [node for node in nodes if _is_ftp_state(node)]
    if not found:
        raise ValueError(
            "state: it holds no FTPState; expected the state of an optimizer built with"
            f" ftp() or with_ftp(), got {type(state)!r}."
        )
    return found


def _by_name(params: optax.Params) -> dict[str, Any]:
    names, leaves, _ = _paths.flatten_with_names(params)
    return dict(zip(names, leaves, strict=True))


def _vector(state: FTPState) -> jax.Array:
    # Under nnx.Optimizer every array of the state sits in a variable.
    (vector,) = jax.tree.leaves(state.radii)
    return vector


def _radii_of(
    state: FTPState, params: optax.Params, axes: _axes.Axes
) -> tuple[list[_axes.Geometry], list[jax.Array]]:
    names, anchors, _ = _paths.flatten_with_names(state.anchor)
    current = _by_name(params)
    for name, anchor in zip(names, anchors, strict=True):
        if name not in current or jnp.shape(current[name]) != jnp.shape(anchor):
            raise ValueError(
                f"params: the state has an anchor {name!r} of shape"
                f" {jnp.shape(anchor)}, which the params lack; their leaves are"
                f" {_paths.listed(list(current))}."
            )
    geometries = [g for g in _axes.resolve(axes, names, anchors) if g is not None]
    vector = _vector(state)
    expected = sum(geometry.num_radii for geometry in geometries)
    if vector.shape != (expected,) or len(geometries) != len(names):
        raise ValueError(
            f"axes: the state holds {vector.size} radii, and these axes make"
            f" {expected}. Pass the axes that were given to ftp."
        )
    return geometries, _radius.split(vector, geometries)
