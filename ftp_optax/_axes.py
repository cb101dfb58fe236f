"""Which axes of a leaf count its rows, and which count stacked layers."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.sharding import PartitionSpec

from ftp_optax import _paths


class LeafAxes(NamedTuple):
    """What the axes of one parameter mean.

    A *row* is what feeds one output unit. The maximum absolute row sum (MARS) is taken
    over rows, and the projection rescales row by row. *Layers* are stacked copies of a
    parameter, as `nn.scan` and `nnx.vmap` make them: each has a radius of its own. All
    axes named in neither field are summed over within a row; with both empty the whole
    leaf is one row.

    Attributes:
      rows: axis or axes that tell rows apart; negative ones count from the end.
      layers: axis or axes that tell stacked layers apart.

    Examples:
      >>> from ftp_optax import LeafAxes
      >>> dense = LeafAxes(rows=-1)  # (in, out)
      >>> stacked_dense = LeafAxes(rows=-1, layers=0)  # (layer, in, out)
      >>> bias = LeafAxes()
    """

    rows: int | Sequence[int] = ()
    layers: int | Sequence[int] = ()


Axes = Any  # LeafAxes | pytree of LeafAxes or None | Callable[[str, leaf], LeafAxes]
# PartitionSpec | pytree of PartitionSpec | Callable[[str, leaf], PartitionSpec] | None
Specs = Any


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


_ATTENTION_INPUT = re.compile(r"^(query|key|value|[qkv](_proj)?)$")
_TABLE = re.compile(r"embed|token|^cls$|^pos")


def flax_axes(
    path: str, leaf: Any, *, scanned: str | Sequence[str] | None = None
) -> LeafAxes:
    """The axes of a flax parameter, told from its path and its shape.

    ============================================  ==========================  ========
    leaf                                          shape                       rows
    ============================================  ==========================  ========
    Dense, Conv, LoRA factor, attention `out`     (..., out)                  last
    attention query, key, value kernel            (in, heads, head_dim)       last two
    Embed table, position table `pos_embed`, ...  (num, features)             first
    position table, class token                   (1, num, features)          one row
    bias, scale, and any 1-D or 0-D leaf          (...)                       one row
    ============================================  ==========================  ========

    A fused qkv kernel is a Dense kernel: it has one radius where the split ones have
    three. A stack of layers cannot be told from a convolution by its shape, so it has
    to be named::

      axes = functools.partial(flax_axes, scanned=r"^blocks/")

    Args:
      path: `/`-joined path of the leaf, such as `blocks/attn/query/kernel`.
      leaf: the parameter, or anything with its shape.
      scanned: one regular expression or several; leaves whose path one of them matches
        (`re.search`) carry a leading axis of stacked layers. A pattern that matches
        nothing goes unnoticed; the shapes that `radii` returns tell.

    Returns:
      The leaf's `LeafAxes`.

    Raises:
      TypeError, ValueError: `scanned` is no regular expression, or it matches a leaf
        without axes; a query, key or value kernel has more axes than attention gives
        it, which only a stack that `scanned` does not name explains.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import flax_axes
      >>> flax_axes("conv/kernel", jnp.zeros((3, 3, 16, 32)))
      LeafAxes(rows=(3,), layers=())
      >>> flax_axes("attn/query/kernel", jnp.zeros((64, 4, 16)))
      LeafAxes(rows=(1, 2), layers=())
      >>> flax_axes("blocks/mlp/kernel", jnp.zeros((12, 64, 256)), scanned="^blocks/")
      LeafAxes(rows=(2,), layers=(0,))
    """
    patterns = _paths.patterns("scanned", scanned)
    stacked = int(any(re.search(pattern, path) for pattern in patterns))
    if stacked and not leaf.shape:
        raise ValueError(
            f"scanned: a leaf it matches needs a leading layer axis, got {path!r} of"
            f" shape ()."
        )
    rows = _flax_rows(path, tuple(leaf.shape)[stacked:])
    return LeafAxes(
        rows=tuple(axis + stacked for axis in rows), layers=(0,) if stacked else ()
    )


def _flax_rows(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    parent, name = ["", *path.split("/")][-2:]
    ndim = len(shape)
    if ndim < 2 or name in ("bias", "scale"):
        return ()
    if name == "kernel" and _ATTENTION_INPUT.search(parent) and ndim > 2:
        if ndim > 3:
            raise ValueError(
                f"axes: {path!r} of shape {shape} has more axes than an attention"
                " kernel (in, heads, head_dim). If the first one stacks layers, pass"
                " axes=functools.partial(flax_axes, scanned=PATTERN) with a PATTERN"
                " that matches this path."
            )
        return (1, 2)
    # Tables and tokens lie in memory as torch has them, so they keep torch's axis 0.
    if name != "kernel" and (_TABLE.search(name) or (ndim > 2 and shape[0] == 1)):
        return (0,)
    return (ndim - 1,)


def torch_axes(path: str, leaf: Any) -> LeafAxes:
    """The axes of a parameter laid out as in PyTorch: axis 0 counts the rows.

    1-D and 0-D leaves are one row, as in the published implementation.

    Args:
      path: `/`-joined path of the leaf; not used.
      leaf: the parameter, or anything with its shape.

    Returns:
      The leaf's `LeafAxes`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import torch_axes
      >>> torch_axes("conv.weight", jnp.zeros((32, 16, 3, 3)))
      LeafAxes(rows=(0,), layers=())
      >>> torch_axes("conv.bias", jnp.zeros((32,)))
      LeafAxes(rows=(), layers=())
    """
    del path
    return LeafAxes(rows=(0,) if len(leaf.shape) > 1 else ())


def resolve(
    axes: Axes, names: Sequence[str], leaves: Sequence[Any], specs: Specs = None
) -> list[Geometry | None]:
    """Works out `axes` for every leaf; `None` where the leaf is to be left alone."""
    axes_of = _lookup("axes", flax_axes if axes is None else axes, LeafAxes)
    spec_of = _lookup("specs", specs, PartitionSpec)
    found = []
    for name, leaf in zip(names, leaves, strict=True):
        geometry = _geometry(axes_of(name, leaf), name, leaf)
        if geometry is not None and specs is not None:
            sharded = _sharded(spec_of(name, leaf), geometry)
            geometry = geometry._replace(sharded=sharded)
        found.append(geometry)
    return found


def _lookup(argument: str, given: Any, kind: type) -> Callable[[str, Any], Any]:
    """Reads one `kind`, a pytree or a function of them as a function of a leaf."""
    if isinstance(given, kind):
        return lambda name, leaf: given
    if callable(given):
        return given
    look_up = _paths.prefix_lookup(
        argument, given, lambda node: node is None or isinstance(node, kind)
    )
    return lambda name, leaf: look_up(name)


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
    rows = _non_negative(spec.rows, "rows", name, shape)
    layers = _non_negative(spec.layers, "layers", name, shape)
    if len(set(rows + layers)) < len(rows + layers):
        raise ValueError(
            f"axes: {spec} names an axis of the leaf {name!r} of shape {shape} more"
            " than once; every axis is a row axis, a layer axis or neither."
        )
    within = tuple(a for a in range(len(shape)) if a not in rows + layers)
    return Geometry(name, shape, within, rows, layers)


def _non_negative(
    axes: int | Sequence[int], field: str, name: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    given = axes if isinstance(axes, Sequence) else (axes,)
    try:
        found = [operator.index(axis) for axis in given]
    except TypeError as error:
        raise TypeError(
            f"axes: expected an integer or a sequence of them for LeafAxes.{field} of"
            f" the leaf {name!r}, got {axes!r}."
        ) from error
    for axis in found:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"axes: LeafAxes.{field} names axis {axis}, which the leaf {name!r} of"
                f" shape {shape} lacks; expected an axis in"
                f" [{-len(shape)}, {len(shape)})."
            )
    return tuple(sorted(axis % len(shape) for axis in found))
