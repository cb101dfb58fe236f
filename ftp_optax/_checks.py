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
    "params: the projection needs the current parameters, got None. Call"
    " update(grads, state, params)."
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


def choice(argument: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument}: expected one of {allowed}, got {value!r}.")


def floating_dtype(argument: str, dtype: Any) -> None:
    if dtype is None:
        return
    try:
        known = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"{argument}: expected None or a floating-point dtype such as 'bfloat16',"
            f" got {dtype!r}."
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


def state_leaves(state: Any, selection: Selection) -> tuple[list[Any], list[Any]]:
    """Anchor and displacement of the constrained leaves, if `state` is theirs."""
    missing = {"anchor", "radii", "radius_state", "displacement"} - set(dir(state))
    if missing:
        raise TypeError(
            f"state: expected the FTPState that init returned, got {type(state)!r}."
        )
    geometries = selection.kept()
    expected = [geometry.name for geometry in geometries]
    fields = []
    for field, tree in (("anchor", state.anchor), ("displacement", state.displacement)):
        names, leaves, _ = _paths.flatten_with_names(tree)
        if names != expected:
            raise ValueError(
                f"state: its {field} was made for other params:"
                f" {_difference(names, expected)}. Call init with these params."
            )
        for leaf, geometry in zip(leaves, geometries, strict=True):
            if jnp.shape(leaf) != geometry.shape:
                raise ValueError(
                    f"state: its {field} was made for other params: the leaf"
                    f" {geometry.name!r} has shape {jnp.shape(leaf)}, expected"
                    f" {geometry.shape}. Call init with these params."
                )
        fields.append(leaves)
    num_radii = sum(geometry.num_radii for geometry in geometries)
    if jnp.shape(state.radii) != (num_radii,):
        raise ValueError(
            f"state: it has radii of shape {jnp.shape(state.radii)}, expected"
            f" {(num_radii,)} for these params and axes."
        )
    return fields[0], fields[1]


def _difference(names: list[str], expected: list[str]) -> str:
    lacking = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    parts = []
    if lacking:
        parts.append(f"it lacks {_paths.listed(lacking, 10)}")
    if extra:
        parts.append(f"it has {_paths.listed(extra, 10)}, which the params lack")
    return " and ".join(parts) or "its leaves come in another order"
