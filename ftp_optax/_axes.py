"""Which axes of a leaf count its rows, and which count stacked layers."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optax
from jax.sharding import PartitionSpec

from ftp_optax import _paths


class LeafAxes(NamedTuple):
    """What the axes of one parameter mean.

    A *row* is all that feeds one output unit. The maximum absolute row sum (MARS) is
    taken over rows, and the projection rescales row by row. *Layers* are stacked copies
    of a parameter, as `nn.scan` and `nnx.vmap` make them; each has its own radius. Axes
    named in neither field are summed over within a row; with both empty the whole leaf
    is one row. A vector (one axis beside its layers) is always one row, as in the
    published implementation.

    Attributes:
      rows: axis or axes that count rows; negative ones count from the end.
      layers: axis or axes that count stacked layers.

    Examples:
      >>> from ftp_optax import LeafAxes
      >>> dense = LeafAxes(rows=-1)  # (in, out)
      >>> stacked_dense = LeafAxes(rows=-1, layers=0)  # (layer, in, out)
      >>> bias = LeafAxes()
    """

    rows: int | Sequence[int] = ()
    layers: int | Sequence[int] = ()


# A pytree of them is a prefix of the params; a callable makes one of the params.
Tree = Mapping[Any, Any] | Sequence[Any]
Axes = LeafAxes | Tree | Callable[[optax.Params], Any] | None
Specs = PartitionSpec | Tree | Callable[[optax.Params], Any] | None


class Geometry(NamedTuple):
    """`LeafAxes` worked out for one leaf's shape; all axes are non-negative."""

    name: str
    shape: tuple[int, ...]
    within: tuple[int, ...]  # axes summed over inside a row
    rows: tuple[int, ...]
    layers: tuple[int, ...]
    # For each axis, the names of the mesh axes that shard it inside a `shard_map`;
    # `None` where the caller has not told.
    sharded: tuple[tuple[str, ...], ...] | None = None

    def mesh_axes(self, axes: Sequence[int]) -> tuple[str, ...]:
        """The names of the mesh axes that are known to shard some of these axes."""
        if self.sharded is None:
            return ()
        return tuple(name for axis in axes for name in self.sharded[axis])

    @property
    def layer_shape(self) -> tuple[int, ...]:
        """Shape of this leaf's radii, one for each stacked layer; () if it has none."""
        return tuple(self.shape[axis] for axis in self.layers)

    @property
    def radius_shape(self) -> tuple[int, ...]:
        """Shape in which this leaf's radii broadcast against the leaf."""
        return tuple(
            size if axis in self.layers else 1 for axis, size in enumerate(self.shape)
        )

    @property
    def num_radii(self) -> int:
        return math.prod(self.layer_shape)


def resolve(
    axes: Axes,
    specs: Specs,
    params: Any,
    excluded: Sequence[str] = (),
    hidden: Sequence[str] = (),
) -> list[Geometry | None]:
    """Works out the axes of every leaf; `None` where the leaf is to be left alone.

    Args:
      axes: as given by the caller.
      specs: as given by the caller.
      params: the leaves in question, with their names; others are `MaskedNode`.
      excluded: names of leaves that `params` lacks, but trees may name.
      hidden: nodes that an enclosing transformation keeps back.
    """
    names, leaves, _ = _paths.flatten_with_names(params)

    def of_each(argument: str, given: Any, kind: type) -> list[Any]:
        if callable(given) and not isinstance(given, kind):
            given = _paths.call(argument, given, params)
        if isinstance(given, kind):
            return [given] * len(names)
        return _paths.spread(
            argument,
            given,
            names,
            excluded,
            hidden,
            lambda node: node is None or isinstance(node, kind),
        )

    all_axes = of_each("axes", axes, LeafAxes)
    geometries = list(map(_geometry, all_axes, names, leaves))
    if specs is None:
        return geometries
    return [
        geometry and geometry._replace(sharded=_sharded(spec, geometry))
        for geometry, spec in zip(
            geometries, of_each("specs", specs, PartitionSpec), strict=True
        )
    ]


def of_masks(name: str, shape: tuple[int, ...], rows: int, layers: int) -> Geometry:
    """The geometry whose `rows` and `layers` are bit masks of axes."""
    masks = {axis: (rows >> axis & 1, layers >> axis & 1) for axis in range(len(shape))}
    return Geometry(
        name,
        shape,
        tuple(axis for axis, mask in masks.items() if mask == (0, 0)),
        tuple(axis for axis, mask in masks.items() if mask[0]),
        tuple(axis for axis, mask in masks.items() if mask[1]),
    )


def bit_mask(axes: Sequence[int]) -> int:
    return sum(1 << axis for axis in axes)


def _sharded(spec: Any, geometry: Geometry) -> tuple[tuple[str, ...], ...]:
    if not isinstance(spec, PartitionSpec) or len(spec) > len(geometry.shape):
        raise ValueError(
            f"specs: expected a PartitionSpec of at most {len(geometry.shape)} entries"
            f" for the leaf {geometry.name!r} of shape {geometry.shape}, got {spec!r}."
        )
    entries = [*spec, *[None] * (len(geometry.shape) - len(spec))]
    if not all(isinstance(entry, str | tuple | None) for entry in entries):
        raise ValueError(
            f"specs: {spec} of the leaf {geometry.name!r} has an entry that is neither"
            " None nor a mesh axis nor several; shard_map takes no other."
        )
    sharded = tuple(
        () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
        for entry in entries
    )
    for axis in geometry.layers:
        if sharded[axis]:
            raise ValueError(
                f"specs: {spec} shards axis {axis} of the leaf {geometry.name!r}, which"
                " stacks layers; each device would have radii of its own. Expected"
                " None there."
            )
    return sharded


def _geometry(spec: Any, name: str, leaf: Any) -> Geometry | None:
    if spec is None:
        return None
    if not isinstance(spec, LeafAxes):
        raise TypeError(
            f"axes: expected a LeafAxes for the leaf {name!r}, got {spec!r}."
        )
    shape = tuple(leaf.shape)
    layers = _non_negative(spec.layers, "layers", name, shape)
    rows = () if len(shape) < 2 else _non_negative(spec.rows, "rows", name, shape)
    if len(set(rows + layers)) < len(rows + layers):
        raise ValueError(
            f"axes: {spec} names an axis of the leaf {name!r} of shape {shape} more"
            " than once; every axis is a row axis, a layer axis or neither."
        )
    if len(shape) - len(layers) < 2:  # a vector
        rows = ()
    within = tuple(a for a in range(len(shape)) if a not in rows + layers)
    return Geometry(name, shape, within, rows, layers)


def _non_negative(
    axes: int | Sequence[int], field: str, name: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    given = axes if isinstance(axes, Sequence) else (axes,)
    try:
        indices = [operator.index(axis) for axis in given]
    except TypeError as error:
        raise TypeError(
            f"axes: expected an integer or a sequence of them for LeafAxes.{field} of"
            f" the leaf {name!r}, got {axes!r}."
        ) from error
    for axis in indices:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"axes: LeafAxes.{field} names axis {axis}, which the leaf {name!r} of"
                f" shape {shape} lacks; expected an axis in"
                f" [{-len(shape)}, {len(shape)})."
            )
    return tuple(sorted(axis % len(shape) for axis in indices))
