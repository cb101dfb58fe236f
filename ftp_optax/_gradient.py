"""The raw gradient: how it reaches a link that stands behind an optimizer."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal

import optax

from ftp_optax import _checks

# Where a link takes the gradient from: the extra argument `grad`, or its own updates.
Source = Literal["updates"] | None


def chooser(name: str, source: Source) -> Callable[[optax.Updates | None], Any]:
    """A function of `grad` that says what a link is to use; `None`: its updates.

    A link that was to use `grad` and has to do without warns, once.
    """
    warn_once = functools.cache(_warn_without_grad)

    def choose(grad: optax.Updates | None) -> optax.Updates | None:
        if source == "updates":
            return None
        if grad is None:
            warn_once(name)
        return grad

    return choose


def hand_on(
    optimizer: optax.GradientTransformation,
    link: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`chain(optimizer, link)`, the link given the gradients the chain receives."""
    _checks.transformation("optimizer", optimizer)
    chained = optax.chain(optimizer, link)

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        # A caller's `grad` gives way: it may be of before clipping or masking.
        extra_args["grad"] = updates
        return chained.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(chained.init, update_fn)


def _warn_without_grad(name: str) -> None:
    warnings.warn(
        f"{name}() was not given the gradient and uses the incoming updates, reversed:"
        " exact after plain SGD, an approximation otherwise."
        f" with_{name}(optimizer, ...) and update(..., grad=grads) are exact;"
        f' {name}(..., gradient="updates") silences this.',
        stacklevel=4,
    )
