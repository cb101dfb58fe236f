"""L2-SP: a quadratic penalty toward the pre-trained weights.

Li, Grandvalet, Davoine, *Explicit Inductive Bias for Transfer Learning with
Convolutional Networks*, ICML 2018, https://arxiv.org/abs/1802.01483.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _anchored, _checks, _leaves, _selection
from ftp_optax._axes import LeafAxes
from ftp_optax._leaves import Leaf


def l2_sp(
    strength: optax.ScalarOrSchedule,
    *,
    decoupled: bool = False,
    excluded_strength: optax.ScalarOrSchedule = 0.0,
    exclude: _selection.Exclude = None,
    mask: _selection.Mask = None,
    anchor: _anchor.Anchor = None,
    anchor_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Pulls each leaf toward its pre-trained value.

    Coupled, before the optimizer, it adds the gradient of
    :math:`\tfrac{\lambda}{2} \|W - W_0\|^2` to the gradient; decoupled, after the
    optimizer, it takes back a share of the displacement at every step:

    .. math::

        g \leftarrow g + \lambda (W - W_0) \qquad \text{or} \qquad
        u \leftarrow u - \lambda (W - W_0)

    Between `optax.scale_by_adam` and `optax.scale_by_learning_rate` the coupled form is
    decoupled as AdamW's decay is, scaled by the learning rate.

    Args:
      strength: :math:`\lambda \ge 0`, a number or a schedule; 0 changes no bit.
      decoupled: `False` for the place before the optimizer, `True` for the one after.
      excluded_strength: the same for leaves that are left alone, such as a new head,
        toward 0: the plain decay that the paper gives to new layers.
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
    _checks.strength("strength", strength)
    _checks.strength("excluded_strength", excluded_strength)
    sign = -1.0 if decoupled else 1.0

    def step(leaves: list[Leaf], count: jax.Array) -> list[jax.Array]:
        weight = sign * _anchored.value_at(strength, count)
        return [_anchored.pulled(x.u, weight, x.w - x.w0) for x in leaves]

    def decay(u: Any, w: Any, count: jax.Array) -> Any:
        if not jnp.issubdtype(jnp.result_type(w), jnp.floating):
            return u
        weight = sign * _anchored.value_at(excluded_strength, count)
        dtype, wide = jnp.result_type(u), _leaves.compute_dtype(w)
        u, w = jnp.asarray(u, wide), jnp.asarray(w, wide)
        return _anchored.pulled(u, weight, w).astype(dtype)

    no_decay = isinstance(excluded_strength, int | float) and excluded_strength == 0
    # Every leaf as one row: this penalty knows no rows.
    scope = _anchor.Scope(LeafAxes(), exclude, mask, anchor, anchor_dtype)
    return _anchored.transformation(scope, step, decay=None if no_decay else decay)
