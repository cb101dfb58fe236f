"""The constrained leaves: which they are, and how values of them are read and written.

A method sees every tree (params, updates, gradient, what its state keeps) as a list
with one array for each constrained leaf, in tree order and in the dtype of the
arithmetic. Leaves that are left alone appear in none of these lists.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftp_optax import _axes, _conventions, _paths
from ftp_optax._axes import Geometry

Exclude = str | Sequence[str] | None
Mask = bool | _axes.Tree | Callable[[optax.Params], Any] | None


class Leaves(NamedTuple):
    """The leaves of one parameter tree, and which of them are constrained."""

    names: list[str]
    params: list[Any]
    treedef: Any
    chosen: list[int]  # the places of the constrained leaves
    geometries: list[Geometry]  # of these
    hidden: list[str]  # nodes that an enclosing optax.masked or partition keeps back

    @property
    def num_radii(self) -> int:
        """One for each constrained leaf, or layer of a stacked one."""
        return sum(geometry.num_radii for geometry in self.geometries)

    def w(self) -> list[jax.Array]:
        """The params, in the dtype of the arithmetic."""
        return self._widened(self.params[i] for i in self.chosen)

    def read(self, argument: str, tree: Any) -> list[jax.Array]:
        """The constrained leaves of an argument, refused unless it is like the params.

        Leaves that are left alone may have any shape.
        """
        names, leaves, _ = _paths.flatten_with_names(tree)
        if names != self.names:
            hint = ""
            if self.hidden:
                hint = (
                    " A transformation under optax.masked or optax.partition sees part"
                    " of the params; give the outer one"
                    " mask_compatible_extra_args=True."
                )
            raise ValueError(
                f"{argument}: expected the tree of the params, but"
                f" {_difference(names, self.names)}.{hint}"
            )
        values = [leaves[i] for i in self.chosen]
        for geometry, value in zip(self.geometries, values, strict=True):
            if jnp.shape(value) != geometry.shape:
                raise ValueError(
                    f"{argument}: the leaf {geometry.name!r} has shape"
                    f" {jnp.shape(value)}, expected {geometry.shape} as in the params."
                )
        return self._widened(values)

    def read_state(self, field: str, tree: Any) -> list[jax.Array]:
        """The leaves of a tree that the state keeps, refused unless it is theirs."""
        names, leaves, _ = _paths.flatten_with_names(tree)
        expected = [geometry.name for geometry in self.geometries]
        if names != expected:
            raise ValueError(
                f"state: its {field} was made for other params:"
                f" {_difference(names, expected)}. Call init with these params."
            )
        for leaf, geometry in zip(leaves, self.geometries, strict=True):
            if jnp.shape(leaf) != geometry.shape:
                raise ValueError(
                    f"state: its {field} was made for other params: the leaf"
                    f" {geometry.name!r} has shape {jnp.shape(leaf)}, expected"
                    f" {geometry.shape}. Call init with these params."
                )
        return self._widened(leaves)

    def read_vector(self, field: str, vector: Any) -> jax.Array:
        """A vector of the state, refused unless it has a value a leaf, or layer."""
        if jnp.shape(vector) != (self.num_radii,):
            raise ValueError(
                f"state: it has {field} of shape {jnp.shape(vector)}, expected"
                f" {(self.num_radii,)} for these params and axes."
            )
        return vector

    def tree(self, values: Sequence[Any]) -> Any:
        """The params' tree of `values`, with `MaskedNode` for leaves left alone."""
        nodes: list[Any] = [optax.MaskedNode()] * len(self.names)
        for i, value in zip(self.chosen, values, strict=True):
            nodes[i] = value
        return jax.tree.unflatten(self.treedef, nodes)

    def write(self, values: Sequence[jax.Array], tree: Any) -> Any:
        """`tree`, like the params, with `values` in their dtypes where constrained."""
        leaves, treedef = jax.tree.flatten(tree)
        for i, value in zip(self.chosen, values, strict=True):
            leaves[i] = value.astype(jnp.result_type(self.params[i]))
        return jax.tree.unflatten(treedef, leaves)

    def _widened(self, values: Any) -> list[jax.Array]:
        return [
            jnp.asarray(value, dtype=compute_dtype(self.params[i]))
            for i, value in zip(self.chosen, values, strict=True)
        ]


def compute_dtype(leaf: Any) -> jnp.dtype:
    """The dtype of the arithmetic on a leaf: its own, but float32 at the least."""
    return jnp.promote_types(jnp.result_type(leaf), jnp.float32)


def select(
    params: Any,
    axes: _axes.Axes,
    exclude: Exclude,
    mask: Mask,
    specs: _axes.Specs = None,
) -> Leaves:
    """Finds the constrained leaves of `params` and works out their geometry.

    A tree without leaves selects nothing and is not an error: `optax.tree.map_params`
    calls `init` with a placeholder, and `optax.masked` may leave nothing over.
    """
    if params is None:
        raise ValueError(
            "params: the projection needs the current parameters, got None. Call"
            " init(params) and update(grads, state, params)."
        )
    hidden = _paths.hidden_nodes(params)
    names, leaves, treedef = _paths.flatten_with_names(params)
    if not names:
        return Leaves(names, leaves, treedef, [], [], hidden)
    _refuse_namesakes(names)
    left_out: set[str] = set()
    for pattern in _paths.patterns("exclude", exclude):
        left_out |= _paths.matches("exclude", pattern, names, hidden)
    masked_in = _masked_in(mask, params, names, hidden)
    chosen = [
        i
        for i, (name, is_in) in enumerate(zip(names, masked_in, strict=True))
        if is_in and name not in left_out
    ]
    unresolved = Leaves(names, leaves, treedef, chosen, [], hidden)
    arrays = [_array_like(names[i], leaves[i]) for i in chosen]
    excluded = [name for i, name in enumerate(names) if i not in set(chosen)]
    axes = _conventions.flax_axes if axes is None else axes
    of_chosen = _axes.resolve(axes, specs, unresolved.tree(arrays), excluded, hidden)
    pairs = [(i, g) for i, g in zip(chosen, of_chosen, strict=True) if g is not None]
    if not pairs:
        raise ValueError(
            "exclude, mask, axes: together they leave no leaf to constrain; the leaves"
            f" are {_paths.listed(names)}."
        )
    for i, _ in pairs:
        _check_dtype(names[i], leaves[i])
    return unresolved._replace(
        chosen=[i for i, _ in pairs], geometries=[geometry for _, geometry in pairs]
    )


def leaf_axes(
    params: optax.Params,
    axes: _axes.Axes = None,
    exclude: Exclude = None,
    mask: Mask = None,
) -> dict[str, _axes.LeafAxes]:
    """Which leaves are constrained, and what their axes are taken to mean.

    This is what `ftp` and the other methods make of these arguments. Inspect it, or
    change it and pass it on as `axes`.

    Args:
      params: the params that `init` will be given.
      axes: as given to `ftp`.
      exclude: as given to `ftp`.
      mask: as given to `ftp`.

    Returns:
      {path: `LeafAxes` with non-negative axes}, without excluded leaves.

    Raises:
      TypeError, ValueError: as `init` would.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import leaf_axes
      >>> params = {"conv": {"kernel": jnp.zeros((3, 3, 8, 16)), "bias": jnp.zeros(16)}}
      >>> for path, axes in leaf_axes(params).items():
      ...     print(path, axes)
      conv/bias LeafAxes(rows=(), layers=())
      conv/kernel LeafAxes(rows=(3,), layers=())
    """
    return {
        geometry.name: _axes.LeafAxes(geometry.rows, geometry.layers)
        for geometry in select(params, axes, exclude, mask).geometries
    }


def _masked_in(
    mask: Mask, params: Any, names: list[str], hidden: list[str]
) -> list[bool]:
    if mask is None:
        return [True] * len(names)
    if callable(mask):
        mask = _paths.call("mask", mask, params)
    values = _paths.spread("mask", mask, names, hidden=hidden)
    return list(map(_as_bool, names, values))


def _as_bool(name: str, value: Any) -> bool:
    known = isinstance(value, bool | np.bool_ | np.ndarray | jax.Array)
    if known and np.ndim(value) == 0 and jnp.result_type(value) == jnp.bool_:
        return bool(value)
    raise TypeError(f"mask: expected True or False for {name!r}, got {value!r}.")


def _refuse_namesakes(names: list[str]) -> None:
    """Refuses `{"a/b": x, "a": {"b": y}}`: a leaf is known by its name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"params: more than one leaf has the path {twice[0]!r}; expected keys whose"
            " paths, joined with '/', differ."
        )


def _array_like(name: str, leaf: Any) -> Any:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return leaf
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        raise TypeError(
            f"params: the leaf {name!r} is no array but {leaf!r}. Pass arrays alone, as"
            " equinox.filter(model, equinox.is_inexact_array) makes them, and combine"
            " them with the rest in the loss."
        ) from error


def _check_dtype(name: str, leaf: Any) -> None:
    dtype = _array_like(name, leaf).dtype
    if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize < 2:
        raise TypeError(
            f"params: the leaf {name!r} has dtype {dtype}; only real floating-point"
            " leaves of 16 bits or more can be constrained. Leave this one out with"
            " exclude or mask."
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
