"""How a leaf is called: one name for it, whichever container holds it.

The same parameter reaches `init` as `['lin']['kernel'].value` and `update` as
`['lin']['kernel']` under flax nnx, and as plain dictionaries under linen. Everything
that refers to a leaf (patterns, axes, anchors, messages) does so by the name made here,
`lin/kernel`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
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
    # Siblings decide how a leaf is called, those that were left out among them.
    nodes = jax.tree_util.tree_leaves_with_path(
        tree, lambda node: (is_leaf and is_leaf(node)) or not jax.tree.leaves(node)
    )
    children = Counter(path[:-1] for path, _ in nodes)
    names = [leaf_name(path, children[path[:-1]] == 1) for path, _ in paths_and_leaves]
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


def patterns(argument: str, given: Any) -> tuple[str, ...]:
    """One regular expression, several, or `None`, as a tuple; refused if unsound."""
    if given is None:
        return ()
    found = (given,) if isinstance(given, str) else given
    # An iterator would be empty the second time.
    several = isinstance(found, Collection)
    if not several or not all(isinstance(pattern, str) for pattern in found):
        raise TypeError(
            f"{argument}: expected a regular expression or a sequence of them, as"
            f" strings; got {given!r}."
        )
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{argument}: {pattern!r} is not a regular expression: {error}."
            ) from error
    return tuple(found)


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
