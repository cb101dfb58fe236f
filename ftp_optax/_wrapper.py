"""A link behind an optimizer: how the raw gradient reaches it, and what may precede."""

import functools
import operator
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
import optax

from ftp_optax import _checks
from ftp_optax._leaves import Leaves

# From the extra argument `grad` and the incoming updates, what a link is to take for
# the gradient; `None`: the updates, reversed.
Choose = Callable[[optax.Updates | None, optax.Updates], optax.Updates | None]

# What these train, or evaluate at, is not where they step from: the projection would
# hold one of the two.
_ELSEWHERE = {
    optax.contrib.ScheduleFreeState: (
        "schedule_free",
        "The two do not combine: around it, what is evaluated leaves the radii too",
    ),
    optax.LookaheadState: ("lookahead", "Put it around, lookahead(with_ftp(...), ...)"),
    optax.MultiStepsState: (
        "MultiSteps",
        "Put it around, MultiSteps(with_ftp(...), ...)",
    ),
    optax.contrib.SAMState: ("sam", "Put it around, sam(with_ftp(...), ...)"),
}
_LIBRARIES = ("ftp_optax", "optax", "jax", "jaxlib", "flax", "contextlib")


def chooser(name: str) -> Choose:
    """What the link `name` uses of `grad`; it warns, once, if it has to do without."""
    warn_once = functools.cache(_warn_without_grad)

    def choose(
        grad: optax.Updates | None, updates: optax.Updates
    ) -> optax.Updates | None:
        if grad is None:
            warn_once(name)
            return None
        given, treedef = jax.tree.flatten(grad)
        taken, other = jax.tree.flatten(updates)
        if given and treedef == other and all(map(operator.is_, given, taken)):
            raise ValueError(
                f"updates: {name} was given the gradient for the optimizer's step."
                f" Expected it behind the optimizer: chain(optimizer, {name}(...))."
            )
        return grad

    return choose


def with_gradient(
    optimizer: optax.GradientTransformation,
    link: optax.GradientTransformationExtraArgs,
    select: Callable[[optax.Params | None], Leaves],
    kind: type,
    field: str,
) -> optax.GradientTransformationExtraArgs:
    """`chain(optimizer, link)`, the link given the gradients the chain receives.

    Args:
      optimizer: any.
      link: takes `grad`.
      select: finds the link's leaves, so that gradients and a state that do not belong
        are refused before the optimizer meets them and fails without the reason.
      kind: of the link's state.
      field: a tree in it of what is constrained.
    """
    _checks.transformation("optimizer", optimizer)
    chained = optax.chain(optimizer, link)

    def init_fn(params: optax.Params) -> optax.OptState:
        own = link.init(params)  # first: its words for bad params are clearer
        inner = optimizer.init(params)
        _refuse_elsewhere(inner)
        return inner, own

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        if not isinstance(state, tuple) or len(state) != 2:
            raise TypeError(
                "state: expected the pair of states that init returned, got"
                f" {type(state)!r}."
            )
        _checks.state_type(state[1], kind)
        leaves = select(params)
        leaves.read_state(field, getattr(state[1], field))
        leaves.read("updates", updates)
        # A caller's `grad` gives way: it may be of before clipping or masking.
        extra_args["grad"] = updates
        return chained.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _refuse_elsewhere(state: Any) -> None:
    kinds = tuple(_ELSEWHERE)
    for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds)):
        if isinstance(node, kinds):
            name, mend = _ELSEWHERE[type(node)]
            raise ValueError(
                f"optimizer: it holds optax's {name}, which keeps weights that the"
                f" projection would not reach. {mend}."
            )


def _warn_without_grad(name: str) -> None:
    warnings.warn(
        f"{name}() was not given the gradient and uses the incoming updates, reversed:"
        " exact after plain SGD, an approximation otherwise, wrong before the"
        f" optimizer. with_{name}(optimizer, ...) and update(..., grad=grads) are"
        " exact.",
        stacklevel=_depth_of_caller(),
    )


def _depth_of_caller() -> int:
    """`stacklevel` of the first frame outside of this library and those it runs in."""
    depth, frame = 0, sys._getframe(1)  # the function that warns: level 1
    while frame is not None:
        depth += 1
        if _library(frame) not in _LIBRARIES:
            return depth
        frame = frame.f_back
    return depth


def _library(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
