"""What one update knows of each constrained leaf, gathered from four trees."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _checks
from ftp_optax._axes import Geometry
from ftp_optax._selection import Selection


class Leaf(NamedTuple):
    """One constrained leaf; arrays of its shape, in the dtype of the arithmetic."""

    w: jax.Array  # the current parameter
    w0: jax.Array  # its anchor
    u: jax.Array  # the unconstrained step
    g: jax.Array  # the raw gradient at w
    c_prev: jax.Array  # the displacement of the last step
    geometry: Geometry


def compute_dtype(leaf: Any) -> jnp.dtype:
    """The dtype of the arithmetic on a leaf: its own, but float32 at the least."""
    return jnp.promote_types(jnp.result_type(leaf), jnp.float32)


def gather(
    selection: Selection,
    updates: optax.Updates,
    grad: optax.Updates | None,
    state: Any,
) -> list[Leaf]:
    """The constrained leaves in tree order, after checks that the trees belong.

    Without `grad`, the reversed updates are taken for the gradient.
    """
    w = selection.constrained(selection.leaves)
    u = selection.constrained(_checks.same_leaves("updates", updates, selection))
    if grad is None:
        g = [-jnp.asarray(u_i) for u_i in u]
    else:
        g = selection.constrained(_checks.same_leaves("grad", grad, selection))
    w0, c_prev = _checks.state_leaves(state, selection)
    leaves = []
    for *arrays, geometry in zip(w, w0, u, g, c_prev, selection.kept(), strict=True):
        dtype = compute_dtype(arrays[0])
        wide = [jnp.asarray(array, dtype=dtype) for array in arrays]
        leaves.append(Leaf(*wide, geometry=geometry))
    return leaves


def cast_like(values: list[jax.Array], tree: Any) -> Any:
    """The values in the places, and the dtypes, of the leaves of `tree`."""
    leaves, treedef = jax.tree.flatten(tree)
    cast = [v.astype(leaf.dtype) for v, leaf in zip(values, leaves, strict=True)]
    return jax.tree.unflatten(treedef, cast)
