"""MARS-SP and MARS-PGM: a fixed hold on the distance to the pre-trained weights.

Gouk, Hospedales, Pontil, *Distance-Based Regularisation of Deep Networks for
Fine-Tuning*, ICLR 2021, https://arxiv.org/abs/2002.08253.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _axes, _checks, _leaves, _paths, _projection
from ftp_optax._axes import Geometry


def mars_sp(
    strength: optax.ScalarOrSchedule,
    *,
    decoupled: bool = False,
    norm: _projection.Norm = "mars",
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Penalises the largest row norm of each leaf's displacement.

    Coupled, before the optimizer, it adds a subgradient of :math:`\lambda \|W - W_0\|`
    to the gradient; decoupled, after it, it takes that from the step:

    .. math::

        \partial \|D\|_\infty = \mathrm{sign}(D_r) \text{ in the row } r \text{ with the
        largest } \|D_r\|_1, \qquad \partial \|D\|_F = D / \|D\|_F

    Rows that tie share the subgradient evenly; at the anchor it is 0.

    Args:
      strength: :math:`\lambda \ge 0`, a number or a schedule; 0 changes no bit.
      decoupled: `False` for the place before the optimizer, `True` for the one after.
      norm: "mars", or "frobenius" for the L2 norm of the whole leaf.
      axes: the meaning of each leaf's axes, as in `ftp`.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`.

    Returns:
      A `GradientTransformationExtraArgs` with state `AnchorState`.

    Raises:
      TypeError, ValueError: arguments, params, updates or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import mars_sp
      >>> tx = optax.chain(mars_sp(0.5), optax.sgd(1.0))
      >>> pretrained = {"kernel": jnp.zeros((2, 2))}
      >>> params = {"kernel": jnp.asarray([[1.0, 2.0], [1.0, -3.0]])}
      >>> updates, _ = tx.update(pretrained, tx.init(pretrained), params)
      >>> print(updates["kernel"])  # the second column is the larger row
      [[-0.  -0.5]
       [-0.   0.5]]

    References:
      Gouk et al., `Distance-Based Regularisation of Deep Networks for Fine-Tuning
      <https://arxiv.org/abs/2002.08253>`_, ICLR 2021
    """
    _checks.schedule("strength", strength)
    _checks.choice("norm", norm, _projection.NORMS)
    sign = -1.0 if decoupled else 1.0

    def new_updates(
        each: list[_anchor.Leaf], leaves: _leaves.Leaves, step: jax.Array
    ) -> list[jax.Array]:
        del leaves
        weight = sign * _anchor.value_at(strength, step)
        return [
            _anchor.pulled(x.u, weight, _subgradient(x.w - x.w0, x.geometry, norm))
            for x in each
        ]

    scope = _anchor.Scope(axes, exclude, mask, anchor)
    return _anchor.transformation(scope, new_updates)


def mars_pgm(
    radius: jax.typing.ArrayLike | _axes.Tree | Callable[[jax.Array], Any],
    *,
    norm: _projection.Norm = "mars",
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Projects each leaf onto a fixed radius around its pre-trained value.

    The last link of a chain, `optax.chain(optimizer, mars_pgm(radius))`. This is FTP's
    projection with radii that are given, not learned:

    .. math::

        W_r \leftarrow W_{0,r} + \min(\gamma / n_r, 1)\, C_r, \qquad
        C = W + u - W_0, \quad n_r = \|C_r\|_1 + 10^{-8}

    Args:
      radius: :math:`\gamma \ge 0` in units of the weights (sums of them for MARS): a
        number, a pytree of numbers that is a prefix of the params, or a schedule that
        returns either. An entry for a stacked leaf may have the shape of its layers.
      norm: "mars", or "frobenius" for the L2 norm of the whole leaf.
      axes: the meaning of each leaf's axes, as in `ftp`.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`.

    Returns:
      A `GradientTransformationExtraArgs` with state `AnchorState`.

    Raises:
      TypeError, ValueError: arguments, params, updates or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import mars_pgm
      >>> params = {"kernel": jnp.zeros((2, 2))}
      >>> tx = optax.chain(optax.sgd(1.0), mars_pgm(0.5))
      >>> grads = {"kernel": -jnp.asarray([[1.0, 0.1], [1.0, 0.2]])}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> print(updates["kernel"])  # the first column moved too far
      [[0.25 0.1 ]
       [0.25 0.2 ]]

    References:
      Gouk et al., `Distance-Based Regularisation of Deep Networks for Fine-Tuning
      <https://arxiv.org/abs/2002.08253>`_, ICLR 2021
    """
    if not callable(radius):
        for name, entry in zip(*_paths.flatten_with_names(radius)[:2], strict=True):
            _checks.not_negative("radius", entry, name)
    _checks.choice("norm", norm, _projection.NORMS)

    def new_updates(
        each: list[_anchor.Leaf], leaves: _leaves.Leaves, step: jax.Array
    ) -> list[jax.Array]:
        steps = []
        radii = _radii_of(_anchor.value_at(radius, step), leaves)
        for leaf, gamma in zip(each, radii, strict=True):
            c = (leaf.w - leaf.w0) + leaf.u
            n = _projection.row_norms(c, leaf.geometry, norm)
            gamma = gamma.astype(c.dtype)
            steps.append(_projection.project(c, leaf.w0, gamma, n) - leaf.w)
        return steps

    scope = _anchor.Scope(axes, exclude, mask, anchor)
    return _anchor.transformation(scope, new_updates)


def _subgradient(d: jax.Array, geometry: Geometry, norm: _projection.Norm) -> jax.Array:
    n = _projection.norms(d, geometry, norm)
    if norm == "frobenius":
        return jnp.where(n > 0, d / jnp.where(n > 0, n, jnp.ones_like(n)), 0.0 * d)
    others = _projection.beside_layers(geometry)
    is_largest = n == _projection.largest_kept(n, geometry)
    ties = jnp.sum(is_largest, axis=others, keepdims=True)
    return jnp.sign(d) * is_largest / ties.astype(d.dtype)


def _radii_of(radius: Any, leaves: _leaves.Leaves) -> list[jax.Array]:
    """A number, or a prefix of the params, in the shape of each leaf's radii."""
    names = [geometry.name for geometry in leaves.geometries]
    entries = _paths.spread("radius", radius, names, leaves.names, leaves.hidden)
    radii = []
    for geometry, entry in zip(leaves.geometries, entries, strict=True):
        gamma = jnp.asarray(entry)
        if gamma.shape not in ((), geometry.layer_shape):
            raise ValueError(
                f"radius: the entry for the leaf {geometry.name!r} has shape"
                f" {gamma.shape}, expected () or {geometry.layer_shape}."
            )
        per_layer = jnp.broadcast_to(gamma, geometry.layer_shape)
        radii.append(per_layer.reshape(geometry.radius_shape))
    return radii
