"""Which leaves are constrained: `exclude`, `mask`, and the geometry of what remains."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftp_optax import _axes, _paths
from ftp_optax._axes import Geometry

Exclude = str | Sequence[str] | None
Mask = Any  # pytree of bool, a prefix of the params | Callable[[params], such a pytree]


class Selection(NamedTuple):
    """The leaves of one parameter tree, and what is known of the constrained ones."""

    names: list[str]
    leaves: list[Any]
    treedef: Any
    geometries: list[Geometry | None]  # None: the leaf is left alone
    hidden: list[str]  # nodes that an enclosing optax.masked or partition keeps back

    def constrained(self, values: Sequence[Any]) -> list[Any]:
        """Of one value per leaf, those that belong to constrained leaves."""
        pairs = zip(values, self.geometries, strict=True)
        return [value for value, geometry in pairs if geometry is not None]

    def kept(self) -> list[Geometry]:
        """The geometries of the constrained leaves, in tree order."""
        return [geometry for geometry in self.geometries if geometry is not None]

    @property
    def num_radii(self) -> int:
        """One for each constrained leaf, or layer of a stacked one."""
        return sum(geometry.num_radii for geometry in self.kept())

    def tree(self, values: Sequence[Any]) -> Any:
        """The params' tree of `values`, with `MaskedNode` for leaves left alone."""
        remaining = iter(values)
        return jax.tree.unflatten(
            self.treedef,
            [
                optax.MaskedNode() if geometry is None else next(remaining)
                for geometry in self.geometries
            ],
        )

    def merge(self, values: Sequence[jax.Array], others: Any) -> Any:
        """The tree `others` with `values` at the constrained leaves."""
        remaining = iter(values)
        leaves, treedef = jax.tree.flatten(others)
        for i, geometry in enumerate(self.geometries):
            if geometry is not None:
                leaves[i] = next(remaining)
        return jax.tree.unflatten(treedef, leaves)

    def merge_like(self, values: Sequence[jax.Array], others: Any) -> Any:
        """`merge`, with each value in the dtype of the leaf that it replaces."""
        replaced = self.constrained(jax.tree.leaves(others))
        pairs = zip(values, replaced, strict=True)
        return self.merge([v.astype(jnp.result_type(x)) for v, x in pairs], others)

    def map_others(self, f: Callable[[Any, Any], Any], others: Any) -> Any:
        """The tree `others` with `f(leaf, param)` where the leaf is left alone."""
        leaves, treedef = jax.tree.flatten(others)
        for i, geometry in enumerate(self.geometries):
            if geometry is None:
                leaves[i] = f(leaves[i], self.leaves[i])
        return jax.tree.unflatten(treedef, leaves)


def select(
    params: Any, axes: Any, exclude: Exclude, mask: Mask, specs: Any = None
) -> Selection:
    """Finds the constrained leaves of `params` and works out their geometry.

    A tree without leaves selects nothing and is not an error: `optax.tree.map_params`
    calls `init` with a placeholder, and `optax.masked` may leave nothing over.
    """
    all_names, nodes, _ = _paths.flatten_with_names(params, _paths.is_masked)
    hidden = [n for n, x in zip(all_names, nodes, strict=True) if _paths.is_masked(x)]
    names, leaves, treedef = _paths.flatten_with_names(params)
    if not names:
        return Selection(names, leaves, treedef, [], hidden)
    _refuse_namesakes(names)
    kept = _masked_in(mask, params, names)
    left_out = _excluded(exclude, names, hidden)
    chosen = [k and name not in left_out for k, name in zip(kept, names, strict=True)]
    subset = [i for i, is_chosen in enumerate(chosen) if is_chosen]
    geometries: list[Geometry | None] = [None] * len(names)
    found = _axes.resolve(
        axes,
        [names[i] for i in subset],
        [_as_array_like(leaves[i]) for i in subset],
        specs,
    )
    for i, geometry in zip(subset, found, strict=True):
        geometries[i] = geometry
        if geometry is not None:
            _check_dtype(names[i], leaves[i])
    if all(geometry is None for geometry in geometries):
        raise ValueError(
            "exclude, mask, axes: together they leave no leaf to constrain; the leaves"
            f" are {_paths.listed(names)}."
        )
    return Selection(names, leaves, treedef, geometries, hidden)


def _excluded(exclude: Exclude, names: list[str], hidden: list[str]) -> set[str]:
    matched: set[str] = set()
    for pattern in _paths.patterns("exclude", exclude):
        found = {name for name in names + hidden if re.search(pattern, name)}
        if not found:
            raise ValueError(
                f"exclude: the pattern {pattern!r} matches no leaf; the leaves are"
                f" {_paths.listed(names)}."
            )
        matched |= found
    return matched


def _masked_in(mask: Mask, params: Any, names: list[str]) -> list[bool]:
    if mask is None:
        return [True] * len(names)
    if isinstance(mask, Callable):
        mask = mask(params)
    look_up = _paths.prefix_lookup("mask", mask)
    return [_as_bool(name, look_up(name)) for name in names]


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


def _as_array_like(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "shape") else jnp.asarray(leaf)


def _check_dtype(name: str, leaf: Any) -> None:
    dtype = _as_array_like(leaf).dtype
    if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize < 2:
        raise TypeError(
            f"params: the leaf {name!r} has dtype {dtype}; only real floating-point"
            " leaves of 16 bits or more can be constrained. Leave this one out with"
            " exclude or mask."
        )
