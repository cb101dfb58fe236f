"""Row norms of a displacement, and the projection onto a radius."""

from typing import Literal

import jax
import jax.numpy as jnp

from ftp_optax import _devices
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


def largest(n: jax.Array, geometry: Geometry) -> jax.Array:
    """The largest row norm of each layer, in the shape of the leaf's radii."""
    # A leaf without any rows has no norms; EPS is below every norm there can be.
    found = jnp.max(n, axis=beside_layers(geometry), initial=EPS)
    return _devices.pmax(found, geometry.mesh_axes(geometry.rows))


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
    return w0 + kept(gamma, n) * c


def kept(gamma: jax.Array, n: jax.Array) -> jax.Array:
    """clip(gamma / n, 0, 1): the share of each row that the projection leaves."""
    ratio = gamma.astype(n.dtype) / n
    # Not jnp.clip, whose derivative is halved where the ratio is 1: it is 0 there.
    return jnp.where(ratio < 1.0, ratio, jnp.ones_like(ratio))


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
