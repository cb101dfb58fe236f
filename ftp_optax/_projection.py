"""Row norms of a displacement, and the projection onto a radius."""

from typing import Literal

import jax
import jax.numpy as jnp

from ftp_optax._axes import Geometry

Norm = Literal["mars", "frobenius"]

# The published guard: added to every norm, and the smallest radius there is.
EPS = 1e-8


def measured_over(geometry: Geometry, norm: Norm) -> tuple[int, ...]:
    """The axes a norm runs over: a row's for MARS, the whole layer's for Frobenius."""
    if norm == "frobenius":
        return geometry.within + geometry.rows
    return geometry.within


def row_norms(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The norm of each row of `c`, plus `EPS`, with reduced axes kept at size 1.

    MARS takes the L1 norm of each row; the Frobenius norm is that of the whole layer,
    which then counts as a single row.
    """
    axes = measured_over(geometry, norm)
    if norm == "frobenius":
        return jnp.sqrt(jnp.sum(jnp.square(c), axis=axes, keepdims=True)) + EPS
    return jnp.sum(jnp.abs(c), axis=axes, keepdims=True) + EPS


def largest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest row norm of each layer, in the shape of the leaf's radii."""
    others = tuple(axis for axis in range(n.ndim) if axis not in geometry.layers)
    # A leaf without any rows has no norms; EPS is below every norm there can be.
    return jnp.max(n, axis=others, initial=EPS)


def shrink_factors(gamma: jax.Array, n: jax.Array) -> jax.Array:
    """By how much each row is scaled to lie within `gamma`; 1 where it does already."""
    return jnp.clip(gamma.astype(n.dtype) / n, 0.0, 1.0)
