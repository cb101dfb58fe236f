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


def norms(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """The norm of each row of `c`, with the axes it runs over kept at size 1.

    MARS takes the L1 norm of each row; the Frobenius norm is that of the whole layer,
    which then counts as a single row.
    """
    axes = measured_over(geometry, norm)
    if norm == "frobenius":
        return jnp.sqrt(jnp.sum(jnp.square(c), axis=axes, keepdims=True))
    return jnp.sum(jnp.abs(c), axis=axes, keepdims=True)


def row_norms(c: jax.Array, geometry: Geometry, norm: Norm) -> jax.Array:
    """`norms` as the published code takes them, plus `EPS`: safe to divide by."""
    return norms(c, geometry, norm) + EPS


def largest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest row norm of each layer, in the shape of the leaf's radii."""
    # A leaf without any rows has no norms; EPS is below every norm there can be.
    return jnp.max(n, axis=beside_layers(geometry), initial=EPS)


def largest_kept(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest of each layer's norms, with its axes kept: 0 where all norms are."""
    return jnp.max(n, axis=beside_layers(geometry), keepdims=True, initial=0.0)


def smallest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The smallest row norm of each layer, in the shape of the leaf's radii."""
    return jnp.min(n, axis=beside_layers(geometry), initial=jnp.inf)


def beside_layers(geometry: Geometry) -> tuple[int, ...]:
    """All axes but those that count layers."""
    return tuple(a for a in range(len(geometry.shape)) if a not in geometry.layers)


def project(c: jax.Array, w0: jax.Array, gamma: jax.Array, n: jax.Array) -> jax.Array:
    """W0 + clip(gamma / n, 0, 1) C: every row of C shortened to `gamma` at most."""
    ratio = gamma.astype(n.dtype) / n
    # Not jnp.clip, whose derivative is halved where the ratio is 1: it is 0 there.
    return w0 + jnp.where(ratio < 1.0, ratio, jnp.ones_like(ratio)) * c
