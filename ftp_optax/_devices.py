"""What is spread over devices: sums in a `shard_map`, where arrays lie, host memory."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.experimental.shard_alike import shard_alike
from jax.sharding import PartitionSpec, reshard


def varying(x: Any) -> frozenset[str]:
    """The manual mesh axes along which `x` may differ, as far as `shard_map` tracks it.

    With `check_vma=False` it does not, and there are none.
    """
    kind = jax.typeof(x)
    manual: Any = getattr(kind, "manual_axis_type", None)  # jax >= 0.10
    return manual.varying if manual is not None else getattr(kind, "vma", frozenset())


def psum(x: jax.Array, names: Sequence[str]) -> jax.Array:
    """The sum over these manual mesh axes; `x` itself where there are none."""
    return _collective(jax.lax.psum, x, names)


def pmax(x: jax.Array, names: Sequence[str]) -> jax.Array:
    """The largest over these manual mesh axes; `x` itself where there are none."""
    return _collective(jax.lax.pmax, x, names)


def pmean(x: jax.Array, names: Sequence[str]) -> jax.Array:
    """The mean over these manual mesh axes; `x` itself where there are none."""
    return _collective(jax.lax.pmean, x, names)


def _collective(function: Any, x: jax.Array, names: Sequence[str]) -> jax.Array:
    if not names:
        return x
    try:
        return function(x, tuple(names))
    except NameError as error:  # jax: the axis is not bound here
        raise ValueError(
            f"specs: they shard over the mesh axes {tuple(names)}, and not all of these"
            " are axes of a shard_map here. Expected the PartitionSpecs that the"
            " enclosing shard_map was given; None outside of one."
        ) from error


def placed_like(x: Any, like: Any) -> Any:
    """`x`, sharded as `like` of the same shape is, in the memory of the devices.

    Known only under `jit`, or where `like` was put somewhere; else `x` itself.
    """
    if isinstance(like, Tracer) or isinstance(x, Tracer):
        if on_host(like):
            return x
        x, sharding = jnp.asarray(x), jax.typeof(like).sharding
        if any(names is not None for names in sharding.spec):  # of an explicit mesh
            x = reshard(x, sharding)
        return shard_alike(like, x)[1]
    if isinstance(like, jax.Array) and like.committed:
        sharding: Any = like.sharding
        if on_host(like):
            sharding = sharding.with_memory_kind("device")
        return jax.device_put(x, sharding)
    return x


def zeros_like(x: jax.Array, dtype: Any = None) -> jax.Array:
    """Zeros that lie where `x` does, under `jit` too, where zeros alone would not."""
    return placed_like(jnp.zeros_like(x, dtype=dtype), x)


def joined(parts: Sequence[jax.Array]) -> jax.Array:
    """Vectors one after the other, on every device of an explicit mesh."""

    def whole(x: jax.Array) -> jax.Array:
        # Layers may be sharded, the vector of their radii is not.
        sharding: Any = jax.typeof(x).sharding
        spread = any(names is not None for names in sharding.spec)
        return reshard(x, PartitionSpec(None)) if spread else x

    return jnp.concatenate([whole(x) for x in parts])


def to_host(x: jax.Array) -> jax.Array:
    """`x` in pinned memory of the host, sharded as before; refused if it stays away."""
    moved = jax.device_put(x, _spaces().Host)
    # Some versions of jax ignore the request on a CPU. Under jit only a probe tells.
    probe = moved
    if isinstance(moved, Tracer):
        with jax.ensure_compile_time_eval():
            probe = jax.device_put(jnp.zeros(1), _spaces().Host)
    if (kind := probe.sharding.memory_kind) != "pinned_host":
        raise ValueError(
            f"anchor_memory: jax {jax.__version__} on {jax.default_backend()} leaves"
            f" what is to go to 'pinned_host' in {kind!r}. Expected None, or a version"
            " or device that has pinned host memory."
        )
    return moved


def to_device(x: Any) -> Any:
    """`x` in the memory of its devices; `x` itself where it is there."""
    return jax.device_put(x, _spaces().Device) if on_host(x) else x


def on_host(x: Any) -> bool:
    """Whether `x` is, or under `jit` will be, in the memory of the host."""
    memory: Any = getattr(jax, "memory", None)  # not in every version of jax
    space: Any = getattr(jax.typeof(x), "memory_space", None)
    return memory is not None and space == memory.Space.Host


def _spaces() -> Any:
    try:
        return jax.memory.Space
    except AttributeError as error:
        raise ValueError(
            "anchor_memory: 'pinned_host' needs a version of jax that has"
            f" jax.memory.Space; this is {jax.__version__}."
        ) from error
