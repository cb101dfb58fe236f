"""The vector of radii: where a leaf's are in it, and what trains it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import _checks, _devices
from ftp_optax._axes import Geometry

LIMIT = 1e18  # the square of a larger hyper-gradient overflows float32
SPIKE = 100.0  # times the scale of the hyper-gradients before it
GROWTH = 4.0  # of the scale at a spike, so that a new scale is soon accepted
DECAY = 0.999  # of the scale a step, as long as Adam's memory of squares

# ---- Places ------------------------------------------------------------------------


def split(vector: jax.Array, geometries: Sequence[Geometry]) -> list[jax.Array]:
    """An (R,) vector as one array per leaf that broadcasts against it."""
    parts, start = [], 0
    for geometry in geometries:
        part = vector[start : start + geometry.num_radii]
        parts.append(part.reshape(geometry.radius_shape))
        start += geometry.num_radii
    return parts


def join(parts: Sequence[jax.Array]) -> jax.Array:
    """One value per layer of each leaf, joined into an (R,) vector of float32."""
    if not parts:
        return jnp.zeros((0,), jnp.float32)
    return _devices.joined([part.reshape(-1).astype(jnp.float32) for part in parts])


# ---- Their optimizer ---------------------------------------------------------------


class GuardState(NamedTuple):
    """Shape (R,), float32: the largest hyper-gradients of late, in absolute value."""

    scale: jax.Array


def guarded(
    argument: str, optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a vector of radii, Adam unless given, behind a guard.

    Adam as published, with an `eps_root` far below any hyper-gradient that counts:
    without, it differentiates sqrt(0) at its first step.

    What the guard holds back counts as 0, which moves no radius by itself: values that
    are not finite, since the base optimizer may have handled the gradient that they
    come from; and spikes, of which Adam's second moment would remember the square for a
    thousand steps.
    """
    if optimizer is None:
        optimizer = optax.adam(1e-2, eps_root=1e-16)
    _checks.transformation(argument, optimizer)

    # To optax's types updates, params and states are trees of arrays.
    def init_fn(params: Any) -> GuardState:
        return GuardState(jnp.zeros_like(params))

    def update_fn(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[jax.Array, GuardState]:
        del params
        h, size, scale = updates, jnp.abs(updates), state.scale
        countable = size <= LIMIT  # not so for NaN
        spike = (scale > 0) & (size > SPIKE * scale)
        seen = jnp.where(size > 0, jnp.maximum(DECAY * scale, size), scale)
        seen = jnp.where(spike, GROWTH * scale, seen)
        passed = jnp.where(countable & ~spike, h, jnp.zeros_like(h))
        return passed, GuardState(jnp.where(countable, seen, scale))

    guard = optax.GradientTransformation(init_fn, update_fn)
    return optax.with_extra_args_support(optax.chain(guard, optimizer))


def refuse_nan(
    argument: str,
    optimizer: optax.GradientTransformationExtraArgs,
    initial_radius: jax.typing.ArrayLike,
) -> None:
    """Refuses an optimizer that makes NaN of the initial radius, if that is known.

    Weight decay takes a share of an infinite radius from it.
    """
    if isinstance(initial_radius, Tracer):
        return
    if np.isfinite(jax.device_get(initial_radius)):
        return
    with jax.ensure_compile_time_eval():
        radii = jnp.full((1,), initial_radius, jnp.float32)
        try:
            step, _ = optimizer.update(jnp.zeros(1), optimizer.init(radii), radii)
        except TypeError:  # it takes more than is known here, such as `value`
            return
        moved = jnp.asarray(optax.apply_updates(radii, step))
        if bool(jnp.isnan(moved).any()):
            raise ValueError(
                f"{argument}: it makes NaN of initial_radius={initial_radius}, as"
                " weight decay does. Expected a transformation without decay, or a"
                " finite initial_radius."
            )
