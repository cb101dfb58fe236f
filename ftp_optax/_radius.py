"""The hyper-gradient of a radius, and its annealing.

A constrained parameter is `W = W0 + clip(gamma / n, 0, 1) * C` for the unconstrained
displacement `C` with row norms `n`. Where every row is bound, the chain rule gives

    dL/dgamma = sum over rows <dL/dW, C> / n,

so the gradient of this step, taken at the `W` that the last step made, is all that is
needed to train the radius that made it.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from ftp_optax import _devices, _leaves, _projection
from ftp_optax._axes import Geometry
from ftp_optax._leaves import Leaf

Hypergradient = Literal["published", "active"]


def radius_gradient(
    leaf: Leaf,
    c_prev: jax.Array,
    n_prev: jax.Array,
    gamma_prev: jax.Array,
    norm: _projection.Norm,
    hypergradient: Hypergradient,
) -> jax.Array:
    """The hyper-gradient of one leaf, in the shape of its radii.

    It is 0 at the first step, where `c_prev` is: no radius moves before it was used.
    """
    g, geometry = leaf.g, leaf.geometry
    over = _projection.measured_over(geometry, norm)
    # An elementwise product: contractions to a scalar fail under explicit sharding.
    h_rows = _projection.total(g * c_prev, over, geometry) / n_prev
    if hypergradient == "active":
        bound = gamma_prev.astype(n_prev.dtype) < n_prev
        h_rows = jnp.where(bound, h_rows, jnp.zeros_like(h_rows))
    h = jnp.sum(h_rows, axis=_projection.beside_layers(geometry))
    summed = () if norm == "frobenius" else geometry.rows
    return _devices.psum(h, geometry.mesh_axes(summed))


def anneal(h: jax.Array, kappa: jax.typing.ArrayLike) -> jax.Array:
    """Scales by `kappa` the hyper-gradients that would shrink their radius.

    Those that are not finite count as 0: the optimizer may have handled the gradient
    that they come from, and the radii would never recover.
    """
    h = _leaves.finite(h)
    return jnp.where(h > 0, jnp.asarray(kappa, dtype=h.dtype) * h, h)


def split(radii: jax.Array, geometries: Sequence[Geometry]) -> list[jax.Array]:
    """The (R,) vector of radii as one array per leaf that broadcasts against it."""
    parts, start = [], 0
    for geometry in geometries:
        parts.append(radii[start : start + geometry.num_radii])
        start += geometry.num_radii
    return shaped(parts, geometries)


def shaped(
    parts: Sequence[jax.Array], geometries: Sequence[Geometry]
) -> list[jax.Array]:
    """One value per layer of each leaf, in the shape that broadcasts against it."""
    pairs = zip(parts, geometries, strict=True)
    return [part.reshape(geometry.radius_shape) for part, geometry in pairs]


def join(parts: Sequence[jax.Array]) -> jax.Array:
    """One value per layer of each leaf, joined into an (R,) vector of float32."""
    if not parts:
        return jnp.zeros((0,), jnp.float32)
    return _devices.joined([part.reshape(-1).astype(jnp.float32) for part in parts])
