"""The anchor: copies of the pre-trained weights, their dtype and their memory."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import _axes, _checks, _devices, _paths, _selection
from ftp_optax._selection import Selection

Anchor = Any  # None | a number | a pytree like the params | "implicit", for ftp alone
IMPLICIT = "implicit"
Memory = Literal["pinned_host"] | None  # None: beside the params
MEMORIES = (None, "pinned_host")


class Scope(NamedTuple):
    """Which leaves a method constrains, how it sees them, and to what it ties them."""

    axes: _axes.Axes = None
    exclude: _selection.Exclude = None
    mask: _selection.Mask = None
    anchor: Anchor = None
    anchor_dtype: Any = None
    anchor_memory: Memory = None
    specs: _axes.Specs = None
    may_be_implicit: bool = False

    @property
    def implicit(self) -> bool:
        return isinstance(self.anchor, str) and self.anchor == IMPLICIT

    def check(self) -> None:
        _paths.patterns("exclude", self.exclude)
        if isinstance(self.anchor, str) and not (
            self.implicit and self.may_be_implicit
        ):
            word = f", or {IMPLICIT!r}" if self.may_be_implicit else ""
            raise ValueError(
                "anchor: expected None, a number or a pytree like the params"
                f"{word}; got {self.anchor!r}."
            )
        _checks.floating_dtype("anchor_dtype", self.anchor_dtype)
        _checks.choice("anchor_memory", self.anchor_memory, MEMORIES)

    def select(self, params: optax.Params | None) -> Selection:
        if params is None:
            raise ValueError(_checks.NO_PARAMS)
        return _selection.select(params, self.axes, self.exclude, self.mask, self.specs)

    def anchor_tree(self, selection: Selection) -> optax.Params:
        if self.implicit:
            return selection.tree([optax.MaskedNode()] * len(selection.kept()))
        leaves = anchor_leaves(self.anchor, selection, self.anchor_dtype)
        if self.anchor_memory is not None:
            leaves = list(map(_devices.to_host, leaves))
        return selection.tree(leaves)

    def on_device(self, anchor: optax.Params) -> Any:
        """The anchor of a state, where arithmetic can reach it; `None` if implicit."""
        return None if self.implicit else jax.tree.map(_devices.to_device, anchor)


def anchor_leaves(anchor: Anchor, selection: Selection, dtype: Any) -> list[jax.Array]:
    """The anchor of each constrained leaf, as new arrays that alias nothing.

    The caller may donate the params, and may go on using the tree given as `anchor`.
    """
    params = selection.constrained(selection.leaves)
    names = [geometry.name for geometry in selection.kept()]
    if anchor is None:
        sources = params
    elif is_number(anchor):
        sources = [jnp.full_like(p, anchor) for p in params]
    else:
        sources = _matched(anchor, selection)
    return [
        copied(name, source, jnp.result_type(p), dtype, like=p)
        for name, source, p in zip(names, sources, params, strict=True)
    ]


def is_number(anchor: Anchor) -> bool:
    # `optax.inject_hyperparams` makes a 0-d array of every number.
    return isinstance(anchor, int | float) or (
        isinstance(anchor, jax.Array | np.ndarray | np.generic) and anchor.ndim == 0
    )


def _matched(anchor: Anchor, selection: Selection) -> list[Any]:
    """The anchor's leaves by name: it may lack what is excluded, and nothing else."""
    if not selection.names and not selection.hidden:
        # `optax.tree.map_params` calls `init` with a placeholder without leaves.
        return []
    names, leaves, _ = _paths.flatten_with_names(anchor)
    by_name = dict(zip(names, leaves, strict=True))
    for name in names:
        hidden = any(_paths.under(node, name) for node in selection.hidden)
        if name not in selection.names and not hidden:
            raise ValueError(
                f"anchor: its leaf {name!r} is not a leaf of the params; expected the"
                f" leaves {_paths.listed(selection.names)}."
            )
    found = []
    for geometry in selection.kept():
        if geometry.name not in by_name:
            raise ValueError(
                f"anchor: no leaf {geometry.name!r}, which the params have; the anchor"
                f" has {_paths.listed(names)}."
            )
        leaf = by_name[geometry.name]
        if jnp.shape(leaf) != geometry.shape:
            raise ValueError(
                f"anchor: the leaf {geometry.name!r} has shape {jnp.shape(leaf)},"
                f" expected {geometry.shape} as in the params."
            )
        found.append(leaf)
    return found


def copied(
    name: str, source: Any, param_dtype: Any, dtype: Any, *, like: Any = None
) -> jax.Array:
    """A copy in `dtype`, refused where that would round; `None`: `param_dtype`.

    It is sharded as `like` is, for which `None` does not say anything.
    """
    if jnp.issubdtype(jnp.result_type(source), jnp.complexfloating):
        raise TypeError(
            f"anchor: the leaf {name!r} has dtype {jnp.result_type(source)}; expected"
            " real numbers."
        )
    if like is not None and source is not like:
        source = _devices.placed_like(source, like)
    # jnp.array copies, where asarray, astype and device_put may alias.
    if dtype is None:
        return jnp.array(source, dtype=param_dtype)
    stored = jnp.array(source, dtype=dtype)
    given = jnp.result_type(source)
    if jnp.promote_types(given, stored.dtype) == stored.dtype:
        return stored
    if isinstance(stored, Tracer):
        raise ValueError(
            f"anchor_dtype: whether {dtype} holds the leaf {name!r} of dtype {given}"
            " without loss depends on its values, which are not known under jit; make"
            " the state outside."
        )
    if not bool(jnp.array_equal(stored.astype(given), source)):
        raise ValueError(
            f"anchor_dtype: {dtype} cannot hold the leaf {name!r} of dtype {given}"
            " without loss: the rounding would be as large as the first radii."
            " Expected weights that are exact in that dtype."
        )
    return stored
