"""Rows: how long they are, how they are shortened, how their directions are kept."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ftp_optax import _axes, _devices
from ftp_optax._axes import Geometry

Norm = Literal["mars", "frobenius"]
NORMS: tuple[Norm, ...] = ("mars", "frobenius")

# The published guard: added to every norm, and the smallest radius there is.
EPS = 1e-8

INT8_MAX = 127.0

# ---- Norms -------------------------------------------------------------------------


def measured_over(geometry: Geometry, norm: Norm) -> tuple[int, ...]:
    """The axes a norm runs over: a row's for MARS, the whole layer's for Frobenius."""
    if norm == "frobenius":
        return geometry.within + geometry.rows
    return geometry.within


def told_apart(geometry: Geometry, norm: Norm) -> tuple[int, ...]:
    """The axes that tell rows of one layer apart; Frobenius knows a single row."""
    return () if norm == "frobenius" else geometry.rows


def beside_layers(geometry: Geometry) -> tuple[int, ...]:
    """All axes but those that count layers."""
    return tuple(a for a in range(len(geometry.shape)) if a not in geometry.layers)


def norms(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The norm of each row of `c`, with the axes it runs over kept at size 1.

    MARS takes the L1 norm of each row; the Frobenius norm is that of the whole layer,
    which then counts as a single row.
    """
    axes = measured_over(geometry, norm)
    if norm == "frobenius":
        square = total(jnp.square(c), axes, geometry)
        # The derivative at 0 is 0, as that of the L1 norm is, and not 0 / 0.
        safe = jnp.where(square > 0, square, jnp.ones_like(square))
        return jnp.where(square > 0, jnp.sqrt(safe), jnp.zeros_like(square))
    return total(jnp.abs(c), axes, geometry)


def total(x: jax.Array, axes: tuple[int, ...], geometry: Geometry) -> jax.Array:
    """The sum over these axes, kept at size 1, of a whole leaf and not of its shard."""
    refuse_unknown_shards(x, geometry)
    return _devices.psum(jnp.sum(x, axis=axes, keepdims=True), geometry.mesh_axes(axes))


def row_norms(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """`norms` as the published code takes them, plus `EPS`: safe to divide by."""
    return norms(c, geometry, norm) + EPS


def over_rows(x: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The sum over the rows of each layer, in the shape of the leaf's radii."""
    summed = jnp.sum(x, axis=beside_layers(geometry))
    return _devices.psum(summed, geometry.mesh_axes(told_apart(geometry, norm)))


def largest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest row norm of each layer, in the shape of the leaf's radii."""
    # A leaf without any rows has no norms; EPS is below every norm there can be.
    highest = jnp.max(n, axis=beside_layers(geometry), initial=EPS)
    return _devices.pmax(highest, geometry.mesh_axes(geometry.rows))


def largest_kept(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest of each layer's norms, with its axes kept: 0 where all norms are."""
    return jnp.max(n, axis=beside_layers(geometry), keepdims=True, initial=0.0)


def smallest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The smallest row norm of each layer, in the shape of the leaf's radii."""
    return jnp.min(n, axis=beside_layers(geometry), initial=jnp.inf)


def share(is_so: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The share of rows of each layer for which it is so; 0 of no rows."""
    axes = beside_layers(geometry)
    count = math.prod(is_so.shape[axis] for axis in axes)
    # Where rows are spread over devices, this is the mean of their equal parts.
    names = geometry.mesh_axes(told_apart(geometry, norm))
    part = jnp.sum(is_so, axis=axes, dtype=jnp.float32) / max(1, count)
    return _devices.pmean(part, names)


def refuse_unknown_shards(x: jax.Array, geometry: Geometry) -> None:
    """Refuses a leaf that differs between devices in a way that nobody has told."""
    if geometry.sharded is None and (names := _devices.varying(x)):
        raise ValueError(
            f"specs: the leaf {geometry.name!r} differs between the devices of the mesh"
            f" axes {sorted(names)} inside a shard_map, and the norms of its shards are"
            " not those of its rows. ftp takes specs, the PartitionSpecs that shard_map"
            " was given for the params (PartitionSpec() where a device has the whole"
            " leaf); other methods expect whole leaves."
        )


# ---- The projection ----------------------------------------------------------------


def project(c: jax.Array, w0: jax.Array, gamma: jax.Array, n: jax.Array) -> jax.Array:
    """W0 + clip(gamma / n, 0, 1) C: every row of C shortened to `gamma` at most."""
    return w0 + shortening(gamma, n) * c


def shortening(gamma: jax.Array, n: jax.Array) -> jax.Array:
    """clip(gamma / n, 0, 1): the share of each row that the projection leaves."""
    ratio = gamma.astype(n.dtype) / n
    # Not jnp.clip, whose derivative is halved where the ratio is 1: it is 0 there.
    return jnp.where(ratio < 1.0, ratio, jnp.ones_like(ratio))


# ---- The displacement in the state -------------------------------------------------


def check_dtype(dtype: Any) -> None:
    """Refuses what is neither `None` nor int8 nor a floating-point dtype that fits."""
    if dtype is None or is_int8(dtype):
        return
    try:
        kind = jnp.dtype(dtype)
        known = jnp.issubdtype(kind, jnp.floating) and kind.itemsize >= 2
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            "displacement_dtype: expected None or a floating-point dtype of 16 bits or"
            f" more, such as 'bfloat16'; or 'int8'; got {dtype!r}."
        )
    if jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp:
        raise ValueError(
            f"displacement_dtype: {dtype} has too small a range: the first steps, of"
            " 1e-8, vanish in it, and no radius would grow. Expected 'bfloat16' or"
            " 'int8'."
        )


def is_int8(dtype: Any) -> bool:
    try:
        return jnp.dtype(dtype) == jnp.int8
    except TypeError:
        return False


def stored(
    c: Sequence[jax.Array], geometries: Sequence[Geometry], like: Any, norm: Norm
) -> Any:
    """The displacements in the places, and the dtypes, of the leaves of `like`.

    In int8 the entries of a row are multiples of its largest one / 127. That unit is
    not kept: only the direction of a row is used again, and `n` is of what is kept.
    """
    leaves, treedef = jax.tree.flatten(like)
    cast = [
        _rounded(x, geometry, norm) if is_int8(leaf.dtype) else x.astype(leaf.dtype)
        for x, geometry, leaf in zip(c, geometries, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, cast)


def refuse_rounded(displacement: Any) -> None:
    """Refuses a state whose displacement does not lead back to the anchor."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(displacement)}
    narrow = sorted(str(dtype) for dtype in dtypes if dtype.itemsize < 4)
    if narrow:
        raise ValueError(
            f"state: its displacement is in {', '.join(narrow)}, which an implicit"
            " anchor cannot be read from. Expected the state of an ftp with"
            ' anchor="implicit".'
        )


def _rounded(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The direction of each row in int8: its entries to 1/254 of the largest."""
    axes = measured_over(geometry, norm)
    highest = jnp.max(jnp.abs(c), axis=axes, keepdims=True, initial=0.0)
    highest = _devices.pmax(highest, geometry.mesh_axes(axes))
    unit = jnp.where(highest > 0, highest, jnp.ones_like(highest)) / INT8_MAX
    return jnp.round(c / unit).astype(jnp.int8)


def after(value: jax.Array, first: jax.Array) -> jax.Array:
    """`value`, computed after `first`, which broadcasts against it."""
    finite = jnp.where(jnp.isfinite(first), first, jnp.zeros_like(first))
    return value + 0.0 * finite.astype(value.dtype)


def described(geometries: Sequence[Geometry], norm: Norm) -> jax.Array:
    """For readers of a state, (L, 3) of int32: rows, layers (bit masks) and norm."""
    table = [
        (_axes.bit_mask(g.rows), _axes.bit_mask(g.layers), NORMS.index(norm))
        for g in geometries
    ]
    return jnp.asarray(np.asarray(table, np.int32).reshape(-1, 3))
