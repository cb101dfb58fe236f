"""The displacement as the state keeps it: in which dtype, and what its users read."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ftp_optax import _checks, _devices, _leaves, _projection
from ftp_optax._axes import Geometry
from ftp_optax._selection import Selection

LARGEST = 127.0  # of int8, either side of 0


def check_dtype(dtype: Any) -> None:
    """Refuses what is neither `None` nor int8 nor a floating-point dtype that fits."""
    if is_int8(dtype):
        return
    _checks.floating_dtype("displacement_dtype", dtype, "'bfloat16'; or 'int8'")
    if dtype is not None and jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp:
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


def zeros(selection: Selection, dtype: Any) -> list[jax.Array]:
    """Displacements before the first step, each a buffer of its own."""
    params = selection.constrained(selection.leaves)
    dtypes = [dtype or _leaves.compute_dtype(p) for p in params]
    arrays = [jnp.asarray(p) for p in params]
    return list(map(_devices.zeros_like, arrays, dtypes))


def stored(
    c: Sequence[jax.Array],
    geometries: Sequence[Geometry],
    like: Any,
    norm: _projection.Norm,
) -> Any:
    """The displacements in the places, and the dtypes, of the leaves of `like`.

    In int8 the entries of a row are multiples of its largest one / 127. That unit is
    not kept: only the direction of a row is used again, and `n` is of what is kept.
    """
    leaves, treedef = jax.tree.flatten(like)
    kept = [
        rounded(x, geometry, norm) if is_int8(leaf.dtype) else x.astype(leaf.dtype)
        for x, geometry, leaf in zip(c, geometries, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, kept)


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


def rounded(c: jax.Array, geometry: Geometry, norm: _projection.Norm) -> jax.Array:
    """The direction of each row in int8: its entries to 1/254 of the largest."""
    axes = _projection.measured_over(geometry, norm)
    largest = jnp.max(jnp.abs(c), axis=axes, keepdims=True, initial=0.0)
    largest = _devices.pmax(largest, geometry.mesh_axes(axes))
    unit = jnp.where(largest > 0, largest, jnp.ones_like(largest)) / LARGEST
    return jnp.round(c / unit).astype(jnp.int8)
