"""WiSE-FT: interpolation of pre-trained and fine-tuned weights.

Wortsman et al., *Robust Fine-Tuning of Zero-Shot Models*, CVPR 2022,
https://arxiv.org/abs/2109.01903.
"""

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _checks, _leaves, _selection
from ftp_optax._axes import LeafAxes


def wise(
    pretrained: optax.Params,
    finetuned: optax.Params,
    alpha: jax.typing.ArrayLike = 0.5,
) -> optax.Params:
    r"""Interpolates between pre-trained and fine-tuned weights, once, after training.

    .. math::

        W = (1 - \alpha) W_0 + \alpha W_1

    Args:
      pretrained: :math:`W_0`, a pytree of arrays.
      finetuned: :math:`W_1`, the same leaves with the same shapes.
      alpha: a number in [0, 1]: 0 gives `pretrained`, 1 gives `finetuned`, exactly.

    Returns:
      A tree like `finetuned`, with its dtypes. Leaves that are not real
      floating-point numbers are those of `finetuned`.

    Raises:
      TypeError: `alpha` is no number.
      ValueError: `alpha` outside [0, 1]; trees whose leaves or shapes differ.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import wise
      >>> print(wise({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, 0.25)["w"])
      [0.25 0.25]

    References:
      Wortsman et al., `Robust Fine-Tuning of Zero-Shot Models
      <https://arxiv.org/abs/2109.01903>`_, CVPR 2022
    """
    _checks.scalar("alpha", alpha, 0.0, 1.0, "a number in [0, 1]")
    floating = jax.tree.map(
        lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating), finetuned
    )
    if not any(jax.tree.leaves(floating)):
        return finetuned
    selection = _selection.select(finetuned, LeafAxes(), None, floating)
    w0 = selection.constrained(_checks.same_leaves("pretrained", pretrained, selection))
    w1 = selection.constrained(selection.leaves)
    mixed = [_mix(*pair, alpha) for pair in zip(w0, w1, strict=True)]
    return selection.merge_like(mixed, finetuned)


def _mix(w0: jax.Array, w1: jax.Array, alpha: jax.typing.ArrayLike) -> jax.Array:
    wide = _leaves.compute_dtype(w1)
    a = jnp.asarray(alpha, wide)
    w0, w1 = jnp.asarray(w0, wide), jnp.asarray(w1, wide)
    # Two products, not w0 + a (w1 - w0): exact at both ends.
    return (1 - a) * w0 + a * w1
