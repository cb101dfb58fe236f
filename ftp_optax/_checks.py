"""Errors for arguments and trees that do not fit, worded for the caller."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ftp_optax import _paths
from ftp_optax._selection import Selection

NO_PARAMS = (
    "params: the projection needs the current parameters, got None. Call init(params)"
    " and update(grads, state, params)."
)


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


def strength(argument: str, value: Any) -> None:
    """Refuses what is neither a schedule nor a number >= 0."""
    if not callable(value):
        scalar(argument, value, 0.0, float("inf"), "a number >= 0 or a schedule")


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


def floating_dtype(argument: str, dtype: Any, such_as: str = "'bfloat16'") -> None:
    if dtype is None:
        return
    try:
        kind = jnp.dtype(dtype)
        known = jnp.issubdtype(kind, jnp.floating) and kind.itemsize >= 2
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"{argument}: expected None or a floating-point dtype of 16 bits or more,"
            f" such as {such_as}; got {dtype!r}."
        )


def transformation(argument: str, value: Any) -> None:
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(
            f"{argument}: expected an optax.GradientTransformation, got {value!r}."
        )


def same_leaves(argument: str, tree: Any, selection: Selection) -> list[Any]:
    """The leaves of `tree`, refused unless they are those of the params by name."""
    names, leaves, _ = _paths.flatten_with_names(tree)
    if names != selection.names:
        hint = ""
        if selection.hidden:
            hint = (
                " A transformation under optax.masked or optax.partition sees part of"
                " the params; give the outer one mask_compatible_extra_args=True."
            )
        raise ValueError(
            f"{argument}: expected the tree of the params, but"
            f" {_difference(names, selection.names)}.{hint}"
        )
    for name, leaf, param, geometry in zip(
        names, leaves, selection.leaves, selection.geometries, strict=True
    ):
        if geometry is not None and jnp.shape(leaf) != jnp.shape(param):
            raise ValueError(
                f"{argument}: the leaf {name!r} has shape {jnp.shape(leaf)}, expected"
                f" {jnp.shape(param)} as in the params."
            )
    return leaves


def state_type(state: Any, expected: type) -> None:
    if not isinstance(state, expected):
        raise TypeError(
            f"state: expected the {expected.__name__} that init returned, got"
            f" {type(state)!r}."
        )


def stored_leaves(field: str, tree: Any, selection: Selection) -> list[Any]:
    """The leaves of a tree in the state, refused unless they are the constrained."""
    names, leaves, _ = _paths.flatten_with_names(tree)
    expected = [geometry.name for geometry in selection.kept()]
    if names != expected:
        raise ValueError(
            f"state: its {field} was made for other params:"
            f" {_difference(names, expected)}. Call init with these params."
        )
    refuse_dropped(leaves)
    for leaf, geometry in zip(leaves, selection.kept(), strict=True):
        if jnp.shape(leaf) != geometry.shape:
            raise ValueError(
                f"state: its {field} was made for other params: the leaf"
                f" {geometry.name!r} has shape {jnp.shape(leaf)}, expected"
                f" {geometry.shape}. Call init with these params."
            )
    return leaves


def is_digest(leaf: Any) -> bool:
    """Whether this stands for a leaf of an anchor that `drop_anchor` left out."""
    return jnp.result_type(leaf) == jnp.uint32  # anchors are of floating-point numbers


def refuse_dropped(leaves: Sequence[Any]) -> None:
    if any(map(is_digest, leaves)):
        raise ValueError(
            "state: its anchor was dropped to be saved. Call"
            " restore_anchor(state, pretrained) first."
        )


def stored_vector(field: str, vector: Any, selection: Selection) -> None:
    """Refuses a vector in the state unless it has a value per leaf, or layer."""
    expected = (selection.num_radii,)
    if jnp.shape(vector) != expected:
        raise ValueError(
            f"state: it has {field} of shape {jnp.shape(vector)}, expected {expected}"
            " for these params and axes."
        )


def _difference(names: list[str], expected: list[str]) -> str:
    lacking = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    parts = []
    if lacking:
        parts.append(f"it lacks {_paths.listed(lacking, 10)}")
    if extra:
        parts.append(f"it has {_paths.listed(extra, 10)}, which the params lack")
    return " and ".join(parts) or "its leaves come in another order"
