"""Errors for arguments that do not fit, worded for the caller."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def scalar(argument: str, value: Any, low: float, high: float, expected: str) -> None:
    """Refuses what is not a number in [low, high]; traced values pass unseen."""
    if isinstance(value, Tracer):
        return
    is_number = isinstance(value, int | float | jax.Array | np.ndarray | np.generic)
    if not is_number or np.ndim(value) != 0:
        hint = " Schedule it with optax.inject_hyperparams." if callable(value) else ""
        raise TypeError(f"{argument}: expected {expected}, got {value!r}.{hint}")
    if not low <= float(value) <= high:
        raise ValueError(f"{argument}: expected {expected}, got {value!r}.")


def schedule(argument: str, value: Any, high: float = float("inf")) -> None:
    """Refuses what is neither a schedule nor a number in [0, high]."""
    if not callable(value):
        of = ">= 0" if high == float("inf") else f"in [0, {high:g}]"
        scalar(argument, value, 0.0, high, f"a number {of} or a schedule")


def not_negative(argument: str, value: Any, leaf: str = "") -> None:
    """Refuses what is not a number >= 0, or an array of them; traced ones pass."""
    if isinstance(value, Tracer):
        return
    try:
        # Not to be read out of a string, as NumPy would.
        right = bool(np.all(np.asarray(value).astype(float, casting="same_kind") >= 0))
    except (TypeError, ValueError):
        right = False
    if not right:
        where = f" for {leaf!r}" if leaf else ""
        raise ValueError(f"{argument}: expected numbers >= 0{where}, got {value!r}.")


def choice(argument: str, value: Any, allowed: Sequence[Any]) -> None:
    # An array has no truth value to compare by.
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{argument}: expected one of {allowed}, got {value!r}.")


def transformation(argument: str, value: Any) -> None:
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(
            f"{argument}: expected an optax.GradientTransformation, got {value!r}."
        )


def state_type(state: Any, expected: type) -> None:
    if not isinstance(state, expected):
        raise TypeError(
            f"state: expected the {expected.__name__} that init returned, got"
            f" {type(state)!r}."
        )
