"""Which axes of a leaf count its rows, and which count stacked layers."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optax
from jax.sharding import PartitionSpec

from ftp_optax import _paths


class LeafAxes(NamedTuple):
    """What the axes of one parameter mean.

    A *row* is what feeds one output unit. The maximum absolute row sum (MARS) is taken
    over rows, and the projection rescales row by row. *Layers* are stacked copies of a
    parameter, as `nn.scan` and `nnx.vmap` make them: each has a radius of its own. All
    axes named in neither field are summed over within a row; with both empty the whole
    leaf is one row. A vector (one axis beside its layers) is always one row, as in the
    published implementation: a bias has no rows to tell apart.

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


# ---- Conventions -------------------------------------------------------------------

_INPUT_OF_HEADS = re.compile(r"^(query|key|value|[qkv](_proj)?)$")
_FUSED = re.compile(r"einsum|qkv|(^|_)kv(_|$)|gating")
_TABLE = re.compile(r"embed|token|^cls|^pos(_|$)|position|(^|_)table$")
# Gemma's: (heads, in, head_dim), with one more leading axis where k and v, or q, k and
# v are one leaf.
_HEADS_FIRST = ("q_einsum", "kv_einsum", "qkv_einsum")


def flax_axes(
    params: optax.Params,
    *,
    scanned: str | Sequence[str] | None = None,
    named: Mapping[str, LeafAxes] | None = None,
) -> dict[str, LeafAxes]:
    """The axes of flax parameters, told from their paths and shapes.

    ================================================  ========================  ========
    leaf                                              shape                     rows
    ================================================  ========================  ========
    `kernel` of Dense, Conv, attention `out`          (..., out)                last
    `kernel`, `w` of query, key, value, `q_proj`...   (in, heads, head_dim)     last two
    `w` of Haiku's Linear and convolutions            (..., out)                last
    Gemma's `q_einsum`, `kv_einsum`, `qkv_einsum`     (..., heads, in, dim)     not `in`
    Gemma's `attn_vec_einsum`, tunix's `o_proj`       (heads, head_dim, out)    last
    Gemma's `gating_einsum` (hidden > in)             (2, hidden, in) or        not `in`
                                                      (2, in, hidden)
    `lora_a`                                          (..., rank)               last
    `lora_b`                                          (rank, ...)               not rank
    `embedding`, `pos_embed`, a table, a token        (num, features), (1, ...) first
    bias, scale, and any 1-D or 0-D leaf              (...)                     one row
    any other leaf of two axes                        (in, out)                 last
    ================================================  ========================  ========

    What stands nowhere in this table is refused, not guessed: a `weight` (PyTorch's and
    Equinox's rows are axis 0: `torch_axes`), and other leaves of three axes or more. A
    fused qkv kernel of two axes is a Dense kernel: it has one radius where the split
    ones have three. A stack of layers cannot be told from a convolution by its shape,
    so it has to be named::

      axes = functools.partial(flax_axes, scanned="^blocks/")

    Args:
      params: pytree of arrays, or of anything with their shapes.
      scanned: one regular expression or several; leaves whose path one of them matches
        (`re.search`) carry a leading axis of stacked layers.
      named: {regular expression: `LeafAxes`} for leaves that follow another convention;
        the first that matches counts, and takes the place of `scanned` as well.

    Returns:
      {path: `LeafAxes`}.

    Raises:
      TypeError, ValueError: a pattern is no regular expression, or matches no leaf, or
        a leaf without axes; what the axes of a leaf mean is not known.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import flax_axes
      >>> conv = {"conv": {"kernel": jnp.zeros((3, 3, 16, 32)), "bias": jnp.zeros(32)}}
      >>> flax_axes(conv)["conv/kernel"]
      LeafAxes(rows=(3,), layers=())
      >>> flax_axes({"attn": {"query": {"kernel": jnp.zeros((64, 4, 16))}}})
      {'attn/query/kernel': LeafAxes(rows=(1, 2), layers=())}
      >>> stacked = {"blocks": {"kernel": jnp.zeros((12, 64, 256))}}
      >>> flax_axes(stacked, scanned="^blocks/")
      {'blocks/kernel': LeafAxes(rows=(2,), layers=(0,))}
    """
    names, leaves, _ = _paths.flatten_with_names(params)
    stacked: set[str] = set()
    for pattern in _paths.patterns("scanned", scanned):
        stacked |= _paths.matches("scanned", pattern, names)
    told: dict[str, LeafAxes] = {}
    for pattern in _paths.patterns("named", None if named is None else tuple(named)):
        for name in _paths.matches("named", pattern, names):
            told.setdefault(name, (named or {})[pattern])
    return {
        name: told[name]
        if name in told
        else _flax_leaf(name, tuple(leaf.shape), name in stacked)
        for name, leaf in zip(names, leaves, strict=True)
    }


def _flax_leaf(path: str, shape: tuple[int, ...], stacked: bool) -> LeafAxes:
    if stacked and not shape:
        raise ValueError(
            f"scanned: a leaf it matches needs a leading layer axis, got {path!r} of"
            f" shape ()."
        )
    offset = int(stacked)
    rows = _flax_rows(path, shape[offset:])
    return LeafAxes(tuple(axis + offset for axis in rows), (0,) if stacked else ())


def _flax_rows(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    parent, name = ["", *path.split("/")][-2:]
    ndim = len(shape)
    every, last = range(ndim), (ndim - 1,)
    if ndim < 2 or name in ("bias", "scale", "b"):
        return ()
    if name == "lora_a" or name.endswith("_lora_a"):
        return last
    if name == "lora_b" or name.endswith("_lora_b"):
        return tuple(every[1:])
    if _INPUT_OF_HEADS.search(parent) and name in ("kernel", "w") and ndim > 2:
        if ndim == 3:
            return (1, 2)
        raise _unknown(path, shape)
    if ndim > 2 and not {name, parent}.isdisjoint(_HEADS_FIRST):
        return tuple(axis for axis in every if axis != ndim - 2)
    if ndim == 3 and "gating_einsum" in (name, parent) and shape[1] != shape[2]:
        return (0, 1) if shape[1] > shape[2] else (0, 2)
    if "attn_vec_einsum" in (name, parent):
        return last
    if name == "kernel" and (ndim == 2 or not _FUSED.search(parent)):
        return last
    if name == "w" and (ndim == 2 or "conv" in parent or parent == "o_proj"):
        return last
    # Tables and tokens lie in memory as torch has them, so they keep torch's axis 0.
    if _TABLE.search(name):
        return (0,)
    if sum(size != 1 for size in shape) < 2 and ndim > 2:
        return ()  # a vector, whatever its shape
    if ndim == 2 and name != "weight":
        return last
    raise _unknown(path, shape)


def _unknown(path: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"axes: which axes of the leaf {path!r} of shape {shape} count rows (output"
        " units) does not show from its name. Pass axes=torch_axes if axis 0 counts"
        " them in all leaves, as in PyTorch and Equinox; or"
        " axes=functools.partial(flax_axes, named={PATTERN: LeafAxes(rows=...)}), with"
        " a PATTERN that matches this path; or scanned=PATTERN beside it if its first"
        " axis stacks layers; or leave the leaf out with exclude."
    )


def torch_axes(params: optax.Params) -> dict[str, LeafAxes]:
    """The axes of parameters laid out as in PyTorch: axis 0 counts the rows.

    Equinox lays its own out in this way too. 1-D and 0-D leaves are one row, as in the
    published implementation.

    Args:
      params: pytree of arrays, or of anything with their shapes.

    Returns:
      {path: `LeafAxes`}.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import torch_axes
      >>> torch_axes({"weight": jnp.zeros((32, 16, 3, 3)), "bias": jnp.zeros((32,))})
      {'bias': LeafAxes(rows=(), layers=()), 'weight': LeafAxes(rows=(0,), layers=())}
    """
    names, leaves, _ = _paths.flatten_with_names(params)
    return {
        name: LeafAxes(rows=(0,) if len(leaf.shape) > 1 else ())
        for name, leaf in zip(names, leaves, strict=True)
    }


# ---- From what the caller says to one geometry a leaf ------------------------------


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

    all_axes = of_each("axes", flax_axes if axes is None else axes, LeafAxes)
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
