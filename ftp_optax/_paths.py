"""How a leaf is called: one name for it, whichever container holds it.

The same parameter reaches `init` as `['lin']['kernel'].value` and `update` as
`['lin']['kernel']` under flax nnx, and as plain dictionaries under linen. Everything
that refers to a leaf (patterns, axes, anchors, messages) does so by the name made here,
`lin/kernel`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

# Tree structures carry no useful public type.
TreeDef = Any


def flatten_with_names(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[str], list[Any], TreeDef]:
    """Flattens `tree` into names, leaves and structure, in tree order."""
    paths_and_leaves, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf)
    paths = [path for path, _ in paths_and_leaves]
    children = Counter(path[:-1] for path in paths)
    names = [leaf_name(path, children[path[:-1]] == 1) for path in paths]
    return names, [leaf for _, leaf in paths_and_leaves], treedef


def leaf_name(path: Sequence[Any], only_child: bool = True) -> str:
    """Joins a key path with `/`, without the `.value` of a variable or a box.

    A last `.value` is dropped only from an `only_child`: a module with the attributes
    `query`, `key` and `value` keeps all three.
    """
    box = jax.tree_util.GetAttrKey("value")
    if path and only_child and path[-1] == box:
        path = path[:-1]
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def is_masked(node: Any) -> bool:
    """Whether `node` stands for a leaf that optax or this library left out."""
    return isinstance(node, optax.MaskedNode)


def under(prefix: str, name: str) -> bool:
    """Whether the leaf `name` is, or lies below, the node `prefix`."""
    return prefix in ("", name) or name.startswith(prefix + "/")


def prefix_lookup(
    argument: str, tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Callable[[str], Any]:
    """Reads `tree`, a prefix of the params, as a function of a leaf's name."""
    prefixes, values, _ = flatten_with_names(tree, is_leaf)

    def look_up(name: str) -> Any:
        for prefix, value in zip(prefixes, values, strict=True):
            if under(prefix, name):
                return value
        raise ValueError(
            f"{argument}: the tree has no entry for the leaf {name!r}; it has entries"
            f" for {listed(prefixes)}."
        )

    return look_up


def listed(names: Sequence[str], most: int = 40) -> str:
    """The names as they appear in a message, cut when there are very many."""
    shown = ", ".join(repr(name) for name in names[:most]) or "none"
    rest = len(names) - most
    return shown if rest <= 0 else f"{shown} and {rest} more"
