"""Methods that keep an anchor and learn nothing beside it: their state, and frame."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _checks, _leaves
from ftp_optax._leaves import Leaf
from ftp_optax._selection import Selection


class AnchorState(NamedTuple):
    """State of the methods that keep an anchor and learn nothing beside it.

    Attributes:
      anchor: W0, the tree of the params, in their dtypes unless `anchor_dtype` says
        otherwise; `optax.MaskedNode` for leaves that are left alone. Copies that can be
        donated.
      step: shape (), int32: the number of updates so far, for schedules.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import l2_sp
      >>> state = l2_sp(0.1).init({"w": jnp.ones(2)})
      >>> print(state.anchor["w"], state.step)
      [1. 1.] 0
    """

    anchor: optax.Params
    step: jax.Array


def value_at(value: Any, count: jax.Array) -> Any:
    """A hyper-parameter, or what its schedule gives for this count."""
    return value(count) if callable(value) else value


def pulled(u: jax.Array, weight: Any, pull: jax.Array) -> jax.Array:
    """`u + weight * pull`; `u` itself, signs of zeros and all, where `weight` is 0."""
    weight = jnp.asarray(weight).astype(u.dtype)
    return jnp.where(weight == 0, u, u + weight * pull)


def transformation(
    scope: _anchor.Scope,
    step: Callable[[list[Leaf], jax.Array], list[jax.Array]],
    choose_gradient: Callable[[Any], Any] | None = None,
    decay: Callable[..., Any] | None = None,
    merge: Callable[..., optax.Updates] = Selection.merge_like,
) -> optax.GradientTransformationExtraArgs:
    """A transformation with an `AnchorState`, made of what it does to its leaves.

    Args:
      scope: which leaves, and their anchor.
      step: from the constrained leaves and the count to their new updates.
      choose_gradient: for a link behind an optimizer, what it uses of `grad`.
      decay: from update, param and `count` of a leaf that is left alone to its update.
      merge: from the selection, what `step` returns and the incoming updates to the new
        ones; `_leaves.steps_to` where `step` returns params.
    """
    scope.check()

    def init_fn(params: optax.Params) -> AnchorState:
        selection = scope.select(params)
        return AnchorState(scope.anchor_tree(selection), jnp.zeros([], jnp.int32))

    def update_fn(
        updates: optax.Updates,
        state: Any,  # AnchorState; to optax's types every state is a tree of arrays
        params: optax.Params | None = None,
        *,
        grad: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, AnchorState]:
        del extra_args
        selection = scope.select(params)
        _checks.state_type(state, AnchorState)
        grad = choose_gradient(grad) if choose_gradient else None
        leaves = _leaves.gather(selection, updates, state.anchor, grad)
        updates = merge(selection, step(leaves, state.step), updates)
        if decay is not None:
            step_decay = functools.partial(decay, count=state.step)
            updates = selection.map_others(step_decay, updates)
        next_step = jnp.asarray(optax.safe_increment(state.step))
        return updates, AnchorState(state.anchor, next_step)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
