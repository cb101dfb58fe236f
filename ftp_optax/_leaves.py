"""What one update knows of each constrained leaf, gathered from several trees."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _checks
from ftp_optax._axes import Geometry
from ftp_optax._selection import Selection


class Leaf(NamedTuple):
    """One constrained leaf; arrays of its shape, in the dtype of the arithmetic."""

    geometry: Geometry
    w: jax.Array  # the current parameter
    w0: Any  # its anchor; None where the state keeps none
    u: jax.Array  # the incoming update
    g: jax.Array  # the raw gradient at w


def compute_dtype(leaf: Any) -> jnp.dtype:
    """The dtype of the arithmetic on a leaf: its own, but float32 at the least."""
    return jnp.promote_types(jnp.result_type(leaf), jnp.float32)


def gather(
    selection: Selection,
    updates: optax.Updates,
    anchor: optax.Params | None,
    grad: optax.Updates | None = None,
) -> list[Leaf]:
    """The constrained leaves in tree order, after checks that the trees belong.

    Without `grad`, the reversed updates are taken for the gradient.
    """
    w = widened(selection, selection.constrained(selection.leaves))
    w0 = [None] * len(w)
    if anchor is not None:
        w0 = stored(selection, "anchor", anchor)
    all_u = _checks.same_leaves("updates", updates, selection)
    u = widened(selection, selection.constrained(all_u))
    if grad is None:
        g = [-u_i for u_i in u]
    else:
        all_g = _checks.same_leaves("grad", grad, selection)
        g = widened(selection, selection.constrained(all_g))
    return list(map(Leaf, selection.kept(), w, w0, u, g))


def stored(selection: Selection, field: str, tree: Any) -> list[jax.Array]:
    """The constrained leaves of a tree that the state keeps, if it is theirs."""
    return widened(selection, _checks.stored_leaves(field, tree, selection))


def widened(selection: Selection, values: list[Any]) -> list[jax.Array]:
    """One value per constrained leaf, in the dtypes of the arithmetic."""
    params = selection.constrained(selection.leaves)
    return [
        jnp.asarray(value, dtype=compute_dtype(param))
        for value, param in zip(values, params, strict=True)
    ]


def steps_to(
    selection: Selection, targets: list[jax.Array], updates: optax.Updates
) -> optax.Updates:
    """The updates that take constrained params to `targets`, in the params' dtypes."""
    params = widened(selection, selection.constrained(selection.leaves))
    pairs = zip(targets, params, strict=True)
    return merged(selection, [target - w for target, w in pairs], updates)


def merged(
    selection: Selection, steps: list[jax.Array], updates: optax.Updates
) -> optax.Updates:
    """The updates with the constrained leaves' steps, in the params' dtypes."""
    params = selection.constrained(selection.leaves)
    pairs = zip(steps, params, strict=True)
    cast = [step.astype(jnp.result_type(param)) for step, param in pairs]
    return selection.merge(cast, updates)


def after(value: jax.Array, first: jax.Array) -> jax.Array:
    """`value`, computed after `first`, which broadcasts against it.

    XLA is free to write the new displacement over the donated old one before it has
    read the old one for the hyper-gradient, and then copies every leaf to make up for
    it. A dependency in the data decides the order (the CPU back end drops
    `optimization_barrier` too early for that). It belongs on an operand of the last sum
    that makes the displacement: around the sum, XLA takes it for cheap and repeats it.
    """
    return value + 0.0 * finite(first).astype(value.dtype)


def finite(x: jax.Array) -> jax.Array:
    """0 in the place of what is not finite."""
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def cast_like(values: list[jax.Array], tree: Any) -> Any:
    """The values in the places, and the dtypes, of the leaves of `tree`."""
    leaves, treedef = jax.tree.flatten(tree)
    cast = [v.astype(leaf.dtype) for v, leaf in zip(values, leaves, strict=True)]
    return jax.tree.unflatten(treedef, cast)
