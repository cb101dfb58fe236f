"""MARS-SP and MARS-PGM: a fixed hold on the distance to the pre-trained weights.

Gouk, Hospedales, Pontil, *Distance-Based Regularisation of Deep Networks for
Fine-Tuning*, ICLR 2021, https://arxiv.org/abs/2002.08253.
"""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import optax

from ftp_optax import (
    _anchor,
    _anchored,
    _checks,
    _leaves,
    _paths,
    _projection,
    _selection,
)
from ftp_optax._axes import Axes, Geometry
from ftp_optax._leaves import Leaf


def mars_sp(
    strength: optax.ScalarOrSchedule,
    *,
    decoupled: bool = False,
    norm: _projection.Norm = "mars",
    axes: Axes = None,
    exclude: _selection.Exclude = None,
    mask: _selection.Mask = None,
    anchor: _anchor.Anchor = None,
    anchor_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Penalises the largest row norm of each leaf's displacement.

    Coupled, before the optimizer, it adds a subgradient of :math:`\lambda \|W - W_0\|`
    to the gradient; decoupled, after it, it takes that from the step:

    .. math::

        \partial \|D\|_\infty = \mathrm{sign}(D_r) \text{ in the row } r \text{ with the
        largest } \|D_r\|_1, \qquad \partial \|D\|_F = D / \|D\|_F

    Rows that tie share it evenly; at the anchor it is 0.

    Args:
      strength: :math:`\lambda \ge 0`, a number or a schedule; 0 changes no bit.
      decoupled: `False` for the place before the optimizer, `True` for the one after.
      norm: "mars", or "frobenius" for the L2 norm of the whole leaf.
      axes: the meaning of each leaf's axes, as in `ftp`.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None`, a pytree or a number, as in `ftp`.
      anchor_dtype: floating-point dtype in which to keep the anchor, as in `ftp`.

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
    _checks.strength("strength", strength)
    _checks.choice("norm", norm, get_args(_projection.Norm))
    sign = -1.0 if decoupled else 1.0

    def step(leaves: list[Leaf], count: jax.Array) -> list[jax.Array]:
        weight = sign * _anchored.value_at(strength, count)
        return [
            _anchored.pulled(x.u, weight, _subgradient(x.w - x.w0, x.geometry, norm))
            for x in leaves
        ]

    scope = _anchor.Scope(axes, exclude, mask, anchor, anchor_dtype)
    return _anchored.transformation(scope, step)


def mars_pgm(
    radius: Any,
    *,
    norm: _projection.Norm = "mars",
    axes: Axes = None,
    exclude: _selection.Exclude = None,
    mask: _selection.Mask = None,
    anchor: _anchor.Anchor = None,
    anchor_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Projects each leaf onto a fixed radius around its pre-trained value.

    The last link of a chain, `optax.chain(optimizer, mars_pgm(radius))`. It is the
    projection of FTP with radii that are given, not learned:

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
      anchor: `None`, a pytree or a number, as in `ftp`.
      anchor_dtype: floating-point dtype in which to keep the anchor, as in `ftp`.

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
    _checks.choice("norm", norm, get_args(_projection.Norm))

    def step(leaves: list[Leaf], count: jax.Array) -> list[jax.Array]:
        radius_of = _radius_lookup(_anchored.value_at(radius, count))
        projected = []
        for leaf in leaves:
            c = (leaf.w - leaf.w0) + leaf.u
            n = _projection.row_norms(c, leaf.geometry, norm)
            gamma = radius_of(leaf.geometry).astype(c.dtype)
            projected.append(_projection.project(c, leaf.w0, gamma, n))
        return projected

    scope = _anchor.Scope(axes, exclude, mask, anchor, anchor_dtype)
    # In the params' dtype: a step rounded to less would leave the radius.
    return _anchored.transformation(scope, step, merge=_leaves.steps_to)


def _subgradient(d: jax.Array, geometry: Geometry, norm: _projection.Norm) -> jax.Array:
    n = _projection.norms(d, geometry, norm)
    if norm == "frobenius":
        return jnp.where(n > 0, d / jnp.where(n > 0, n, jnp.ones_like(n)), 0.0 * d)
    others = _projection.beside_layers(geometry)
    is_largest = n == _projection.largest_kept(n, geometry)
    ties = jnp.sum(is_largest, axis=others, keepdims=True)
    return jnp.sign(d) * is_largest / ties.astype(d.dtype)


def _radius_lookup(radius: Any) -> Callable[[Geometry], jax.Array]:
    """Reads a number or a prefix of the params, in the shape of each leaf's radii."""
    look_up = _paths.prefix_lookup("radius", radius)

    def radius_of(geometry: Geometry) -> jax.Array:
        gamma = jnp.asarray(look_up(geometry.name))
        if gamma.shape not in ((), geometry.layer_shape):
            raise ValueError(
                f"radius: the entry for the leaf {geometry.name!r} has shape"
                f" {gamma.shape}, expected () or {geometry.layer_shape}."
            )
        return jnp.broadcast_to(gamma, geometry.layer_shape).reshape(
            geometry.radius_shape
        )

    return radius_of
