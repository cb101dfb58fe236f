"""L2-SP: a quadratic penalty toward the pre-trained weights.

Li, Grandvalet, Davoine, *Explicit Inductive Bias for Transfer Learning with
Convolutional Networks*, ICML 2018, https://arxiv.org/abs/1802.01483.
"""

import jax
import optax

from ftp_optax import _anchor, _checks, _leaves
from ftp_optax._axes import LeafAxes


def l2_sp(
    strength: optax.ScalarOrSchedule,
    *,
    decoupled: bool = False,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Pulls each leaf toward its pre-trained value.

    Coupled, before the optimizer, it adds the gradient of
    :math:`\tfrac{\lambda}{2} \|W - W_0\|^2` to the gradient; decoupled, after the
    optimizer, it takes back a share of the displacement at every step:

    .. math::

        g \leftarrow g + \lambda (W - W_0) \qquad \text{or} \qquad
        u \leftarrow u - \lambda (W - W_0)

    Between `optax.scale_by_adam` and `optax.scale_by_learning_rate` the coupled form is
    decoupled as AdamW's decay is, scaled by the learning rate. The paper also decays
    new layers toward 0; use `optax.add_decayed_weights` with a mask for that.

    Args:
      strength: :math:`\lambda \ge 0`, a number or a schedule; 0 changes no bit.
      decoupled: `False` for the place before the optimizer, `True` for the one after.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`.

    Returns:
      A `GradientTransformationExtraArgs` with state `AnchorState`.

    Raises:
      TypeError, ValueError: arguments, params, updates or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import l2_sp
      >>> tx = optax.chain(l2_sp(0.5), optax.sgd(0.1))
      >>> pretrained, params = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
      >>> updates, _ = tx.update({"w": jnp.zeros(2)}, tx.init(pretrained), params)
      >>> print(updates["w"])
      [-0.05 -0.05]

    References:
      Li et al., `Explicit Inductive Bias for Transfer Learning with Convolutional
      Networks <https://arxiv.org/abs/1802.01483>`_, ICML 2018
    """
    _checks.schedule("strength", strength)
    sign = -1.0 if decoupled else 1.0

    def new_updates(
        each: list[_anchor.Leaf], leaves: _leaves.Leaves, step: jax.Array
    ) -> list[jax.Array]:
        del leaves
        weight = sign * _anchor.value_at(strength, step)
        return [_anchor.pulled(x.u, weight, x.w - x.w0) for x in each]

    # Every leaf as one row: this penalty knows no rows.
    return _anchor.transformation(
        _anchor.Scope(LeafAxes(), exclude, mask, anchor), new_updates
    )
