"""Selective Projection Decay (SPD).

Tian, Huang, Kira, *Rethinking Weight Decay for Robust Fine-Tuning of Foundation
Models*, NeurIPS 2024, https://arxiv.org/abs/2411.01713.
"""

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _axes, _checks, _leaves, _projection, _wrapper


def spd(
    strength: optax.ScalarOrSchedule,
    *,
    norm: _projection.Norm = "frobenius",
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Decays toward the pre-trained weights, only where the gradient agrees.

    The last link of a chain; prefer `with_spd`, which passes the raw gradient on. For a
    leaf (layer) with raw gradient :math:`g` and incoming step
    :math:`u`, with :math:`D = W - W_0` and :math:`C = D + u`,

    .. math::

        r = \mathrm{clip}\bigl((\|C\| - \|D\|) / \|C\|,\, 0,\, 1\bigr), \qquad
        u \leftarrow u - \lambda\, r\, C \quad \text{where } \langle g, D \rangle > 0

    If the product is positive, gradient descent itself would return toward the anchor,
    and a step that moves on (by momentum, say) is decayed. With :math:`\lambda = 1` the
    leaf returns to the distance it had. Nothing is done where :math:`C = 0`.

    Args:
      strength: :math:`\lambda \ge 0`, a number or a schedule; not scaled by the
        learning rate.
      norm: "frobenius", the published L2 norm of the whole leaf; or "mars", its largest
        L1 row norm.
      axes: the meaning of each leaf's axes, as in `ftp`.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`; 0.0 for adapters.

    Returns:
      A `GradientTransformationExtraArgs` with state `AnchorState`.

    Raises:
      TypeError, ValueError: arguments, params, gradients or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import spd
      >>> tx = spd(1.0)
      >>> pretrained, params = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
      >>> step, grad = {"w": jnp.ones(2)}, {"w": jnp.ones(2)}
      >>> updates, _ = tx.update(step, tx.init(pretrained), params, grad=grad)
      >>> print(updates["w"])  # back to the distance it had
      [0. 0.]

    References:
      Tian et al., `Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models
      <https://arxiv.org/abs/2411.01713>`_, NeurIPS 2024
    """
    _checks.schedule("strength", strength)
    _checks.choice("norm", norm, _projection.NORMS)

    def new_updates(
        each: list[_anchor.Leaf], leaves: _leaves.Leaves, step: jax.Array
    ) -> list[jax.Array]:
        del leaves
        weight = jnp.asarray(_anchor.value_at(strength, step))
        return [_decayed(x, weight, norm) for x in each]

    scope = _anchor.Scope(axes, exclude, mask, anchor)
    return _anchor.transformation(scope, new_updates, _wrapper.chooser("spd"))


def _decayed(x: _anchor.Leaf, strength: jax.Array, norm: _projection.Norm) -> jax.Array:
    d = x.w - x.w0
    c = d + x.u
    size_c, size_d = (
        _projection.largest_kept(_projection.norms(y, x.geometry, norm), x.geometry)
        for y in (c, d)
    )
    safe = jnp.where(size_c > 0, size_c, jnp.ones_like(size_c))
    r = jnp.clip((size_c - size_d) / safe, 0.0, 1.0)
    layer = _projection.beside_layers(x.geometry)
    returns = jnp.sum(x.g * d, axis=layer, keepdims=True) > 0
    r = jnp.where(returns, strength.astype(c.dtype) * r, jnp.zeros_like(r))
    return x.u - r * c


def with_spd(
    optimizer: optax.GradientTransformation,
    strength: optax.ScalarOrSchedule,
    *,
    norm: _projection.Norm = "frobenius",
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    """Any optimizer with selective projection decay.

    `chain(optimizer, spd(...))` that passes the gradients it receives on as `grad`.

    Args:
      optimizer: what makes the step; its own weight decay is best left at 0.
      strength: the decay, see `spd`. This and all that follow are its arguments.

    Returns:
      A `GradientTransformationExtraArgs`; its state is the pair of the optimizer's
      state and the `AnchorState`.

    Raises:
      TypeError, ValueError: as `spd` does.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import with_spd
      >>> params = {"w": jnp.ones(2)}
      >>> tx = with_spd(optax.adam(1e-3), 1.0)
      >>> updates, state = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
      >>> print(f"{updates['w'][0]:.4f}")  # at the anchor there is nothing to decay
      -0.0010

    References:
      Tian et al., `Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models
      <https://arxiv.org/abs/2411.01713>`_, NeurIPS 2024
    """
    link = spd(
        strength,
        norm=norm,
        axes=axes,
        exclude=exclude,
        mask=mask,
        anchor=anchor,
    )
    select = _anchor.Scope(axes, exclude, mask).select
    return _wrapper.with_gradient(
        optimizer, link, select, _anchor.AnchorState, "anchor"
    )
