"""Reading this library's states, by parameter name, in the state of any optimizer."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import _axes, _paths, _radii
from ftp_optax._axes import Geometry
from ftp_optax._ftp import FTPState
from ftp_optax._tpgm import TPGMState


class LeafSummary(NamedTuple):
    """How one leaf stands to its radius; for stacked leaves, one value per layer.

    Attributes:
      radius: gamma, the bound of the row norms of the params' displacement from the
        anchor.
      norm: the largest row norm that the last step would have had without it.
      bound: the share of rows, in [0, 1], that the last step had to shorten.
      first_norm: `norm` of the first step. If it is far above those of later steps,
        weights were loaded after `init`, unless the anchor is implicit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import ftp, summary
      >>> params = {"w": jnp.ones(2)}
      >>> summary(ftp().init(params), params)["w"].norm.item()
      0.0
    """

    radius: jax.Array
    norm: jax.Array
    bound: jax.Array
    first_norm: jax.Array


def radii(
    state: optax.OptState, params: optax.Params, *, axes: _axes.Axes = None
) -> dict[str, jax.Array]:
    """The radius of each constrained leaf by its path.

    Args:
      state: any optimizer state that holds an `FTPState`, however chained, masked,
        partitioned or wrapped; that of `nnx.Optimizer` too. Or a `TPGMState`.
      params: the params the state belongs to.
      axes: as given to `ftp` or `tpgm`; needed only under `jit`, and there only if it
        names stacked layers.

    Returns:
      {path: float32 radius}, of shape () or, for a stacked leaf, that of its layers.

    Raises:
      ValueError: there is no such state, or it does not belong to `params` and `axes`;
        or two of them constrain one leaf.

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
    by_path: dict[str, jax.Array] = {}
    for node in find(state, FTPState, TPGMState):
        for name, (radius,) in _by_leaf(node, params, axes, node.radii):
            refuse_second(by_path, name)
            by_path[name] = radius
    return by_path


def summary(
    state: optax.OptState, params: optax.Params, *, axes: _axes.Axes = None
) -> dict[str, LeafSummary]:
    """Radius, norm and share of bound rows of each constrained leaf, by its path.

    It reads what the last update stored in the state, at almost no cost, and works
    under `jit`.

    Args:
      state: any optimizer state that holds an `FTPState`, as `radii` finds it.
      params: the params the state belongs to.
      axes: as `radii` needs it.

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
      >>> print(f"{leaf.radius:.4f} {leaf.norm:.4f} {leaf.bound:.0%}")
      0.0074 0.2000 100%
    """
    by_path: dict[str, LeafSummary] = {}
    for node in find(state, FTPState):
        vectors = (node.radii, node.norms, node.bound, node.first_norms)
        for name, values in _by_leaf(node, params, axes, *vectors):
            refuse_second(by_path, name)
            by_path[name] = LeafSummary(*values)
    return by_path


# ---- Finding states and their leaves -----------------------------------------------


def find(state: optax.OptState, *kinds: type) -> list[Any]:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    states = [node for node in nodes if isinstance(node, kinds)]
    if not states:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"state: it holds no {expected}; expected the state of an optimizer that"
            f" has one, or an nnx.Optimizer, got {type(state)!r}. A checkpoint has to"
            " be restored with a target that init made."
        )
    return states


def belonging(
    kept: Any, params: optax.Params, argument: str = "params"
) -> dict[str, Any]:
    """The params by name, refused unless every leaf of a kept tree is among them."""
    names, leaves, _ = _paths.flatten_with_names(params)
    current = {}
    for name, leaf in zip(names, leaves, strict=True):
        current[name] = leaf
        if jnp.iscomplexobj(leaf):
            # As optax.split_real_and_imaginary hands it on.
            current |= {f"{name}/real": leaf.real, f"{name}/imaginary": leaf.imag}
    for name, leaf in zip(*_paths.flatten_with_names(kept)[:2], strict=True):
        if name not in current or jnp.shape(current[name]) != jnp.shape(leaf):
            raise ValueError(
                f"{argument}: the state was made for a leaf {name!r} of shape"
                f" {jnp.shape(leaf)}, which they lack; their leaves are"
                f" {_paths.listed(names)}."
            )
    return current


def array(field: Any) -> jax.Array:
    """An array of a state; under nnx.Optimizer it sits in a variable."""
    (value,) = jax.tree.leaves(field)
    return value


def geometries_of(
    state: FTPState | TPGMState, params: optax.Params, axes: _axes.Axes = None
) -> list[Geometry]:
    """What the axes of each constrained leaf mean, as far as the state can tell.

    Under `jit` it cannot, and then rows count for nothing: only stacked layers do.
    """
    # FTP's displacement is there even where its anchor is implicit.
    kept = state.displacement if isinstance(state, FTPState) else state.anchor
    current = belonging(kept, params)
    names, leaves, _ = _paths.flatten_with_names(kept)
    described, vector = array(state.geometry), array(state.radii)
    if vector.ndim != 1:
        raise ValueError(
            f"state: its radii have shape {vector.shape}, expected one vector. Of"
            " states for several devices, pass that of one."
        )
    if not isinstance(described, Tracer):
        return [
            _axes.of_masks(name, jnp.shape(leaf), int(rows), int(layers))
            for name, leaf, (rows, layers, _) in zip(
                names, leaves, np.asarray(described), strict=True
            )
        ]
    if axes is None and vector.size == len(names):
        shapes = map(jnp.shape, leaves)
        return [_axes.of_masks(*leaf, 0, 0) for leaf in zip(names, shapes, strict=True)]
    others = [name for name in current if name not in names]
    resolved = [] if axes is None else _axes.resolve(axes, None, kept, others)
    geometries = [geometry for geometry in resolved if geometry is not None]
    expected = sum(geometry.num_radii for geometry in geometries)
    if expected != vector.size or len(geometries) != len(names):
        raise ValueError(
            f"axes: the state holds {vector.size} radii for {len(names)} leaves, some"
            f" of which stack layers, and these axes make {expected}. Under jit pass"
            " the axes that were given to ftp."
        )
    return geometries


def _by_leaf(
    state: FTPState | TPGMState, params: optax.Params, axes: _axes.Axes, *vectors: Any
) -> Iterator[tuple[str, list[jax.Array]]]:
    """The name of each leaf, and what the (R,) vectors hold of its layers."""
    geometries = geometries_of(state, params, axes)
    columns = [_radii.split(array(vector), geometries) for vector in vectors]
    for geometry, *values in zip(geometries, *columns, strict=True):
        yield geometry.name, [value.reshape(geometry.layer_shape) for value in values]


def refuse_second(by_path: dict[str, Any], name: str) -> None:
    if name in by_path:
        raise ValueError(
            f"state: the leaf {name!r} has radii in more than one state. Expected one"
            " that constrains it; pass the part of the state that is meant."
        )
