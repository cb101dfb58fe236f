"""Reading the radii by name, and taking a new anchor, in any optimizer state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _axes, _checks, _leaves, _paths, _projection, _radius
from ftp_optax._anchored import AnchorState
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
    for ftp_state in _find(state, FTPState):
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
    for ftp_state in _find(state, FTPState):
        geometries, gammas = _radii_of(ftp_state, params, axes)
        current = _belonging(ftp_state.anchor, params)
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
    """Takes `params` for the new anchor, and leaves the base optimizer as it is.

    For the next task of a sequence, and for weights that were loaded after `init`.
    FTP's radii and the state of their optimizer become what `init` makes of `params`;
    of an `AnchorState` only the anchor changes. For `digrap` and `tpgm` call `init`.

    Args:
      state: any optimizer state that holds an `FTPState` or an `AnchorState`.
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
    _find(state, FTPState, AnchorState)

    def reset(node: Any) -> Any:
        if isinstance(node, FTPState):
            _radii_of(node, params, axes)  # refuses other axes
            return node._replace(
                anchor=_new_anchor(node.anchor, params),
                **_new_radii(node, radius_optimizer, initial_radius),
                displacement=jax.tree.map(jnp.zeros_like, node.displacement),
            )
        if isinstance(node, AnchorState):
            return node._replace(anchor=_new_anchor(node.anchor, params))
        return node

    return jax.tree.map(
        reset, state, is_leaf=lambda node: isinstance(node, FTPState | AnchorState)
    )


def _new_anchor(anchor: Any, params: optax.Params) -> Any:
    """Copies of the params in the places, and the dtypes, of the anchor's leaves."""
    current = _belonging(anchor, params)
    names, leaves, treedef = _paths.flatten_with_names(anchor)
    copies = [
        jnp.array(current[name], dtype=leaf.dtype)
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, copies)


def _new_radii(
    state: FTPState,
    radius_optimizer: optax.GradientTransformation,
    initial_radius: jax.typing.ArrayLike,
) -> dict[str, Any]:
    """The fields `radii` and `radius_state` as `init` makes them."""
    vector = jnp.full_like(_vector(state), initial_radius)
    old, treedef = jax.tree.flatten(state.radius_state)
    new = jax.tree.leaves(radius_optimizer.init(vector))
    if list(map(jnp.shape, new)) != list(map(jnp.shape, old)):
        raise ValueError(
            "radius_optimizer: its state does not have the shapes of the one in"
            " `state`. Expected the transformation that was given to ftp."
        )
    return {
        "radii": jax.tree.map(lambda _: vector, state.radii),
        "radius_state": jax.tree.unflatten(treedef, new),
    }


def _find(state: optax.OptState, *types: type) -> list[Any]:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, types))
    found = [node for node in nodes if isinstance(node, types)]
    if not found:
        expected = " or ".join(kind.__name__ for kind in types)
        raise ValueError(
            f"state: it holds no {expected}; expected the state of an optimizer built"
            f" with this library, got {type(state)!r}."
        )
    return found


def _belonging(anchor: Any, params: optax.Params) -> dict[str, Any]:
    """The params by name, refused unless every leaf of the anchor is among them."""
    names, leaves, _ = _paths.flatten_with_names(params)
    current = dict(zip(names, leaves, strict=True))
    anchor_names, anchors, _ = _paths.flatten_with_names(anchor)
    for name, leaf in zip(anchor_names, anchors, strict=True):
        if name not in current or jnp.shape(current[name]) != jnp.shape(leaf):
            raise ValueError(
                f"params: the state has an anchor {name!r} of shape"
                f" {jnp.shape(leaf)}, which the params lack; their leaves are"
                f" {_paths.listed(names)}."
            )
    return current


def _vector(state: FTPState) -> jax.Array:
    # Under nnx.Optimizer every array of the state sits in a variable.
    (vector,) = jax.tree.leaves(state.radii)
    return vector


def _radii_of(
    state: FTPState, params: optax.Params, axes: _axes.Axes
) -> tuple[list[_axes.Geometry], list[jax.Array]]:
    _belonging(state.anchor, params)
    names, anchors, _ = _paths.flatten_with_names(state.anchor)
    geometries = [g for g in _axes.resolve(axes, names, anchors) if g is not None]
    vector = _vector(state)
    expected = sum(geometry.num_radii for geometry in geometries)
    if vector.shape != (expected,) or len(geometries) != len(names):
        raise ValueError(
            f"axes: the state holds {vector.size} radii, and these axes make"
            f" {expected}. Pass the axes that were given to ftp."
        )
    return geometries, _radius.split(vector, geometries)
