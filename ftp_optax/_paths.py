"""How a leaf is called: one name for it, whichever container holds it.

The same parameter reaches `init` as `['lin']['kernel'].value` and `update` as
`['lin']['kernel']` under flax nnx, and as plain dictionaries under linen. Everything
that refers to a leaf (patterns, axes, anchors, messages) does so by the name made here,
`lin/kernel`.
"""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
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


def matches(
    argument: str, pattern: str, names: Sequence[str], hidden: Sequence[str] = ()
) -> set[str]:
    """The names in which a regular expression is found.

    It is refused if there are none, here or in the nodes that are kept back.
    """
    matched = {name for name in names if re.search(pattern, name)}
    if not matched and not any(re.search(pattern, node + "/") for node in hidden):
        raise ValueError(
            f"{argument}: the pattern {pattern!r} matches no leaf; the leaves are"
            f" {listed([*names, *hidden])}."
        )
    return matched


def patterns(argument: str, given: Any) -> tuple[str, ...]:
    """One regular expression, several, or `None`, as a tuple; refused if unsound."""
    if given is None:
        return ()
    expressions = (given,) if isinstance(given, str) else given
    # An iterator would be empty the second time.
    several = isinstance(expressions, Collection)
    if not several or not all(isinstance(pattern, str) for pattern in expressions):
        raise TypeError(
            f"{argument}: expected a regular expression or a sequence of them, as"
            f" strings; got {given!r}."
        )
    for pattern in expressions:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{argument}: {pattern!r} is not a regular expression: {error}."
            ) from error
    return tuple(expressions)


def hidden_nodes(tree: Any) -> list[str]:
    """The names of the nodes that optax or this library left out of a tree."""
    is_masked = lambda node: isinstance(node, optax.MaskedNode)
    names, nodes, _ = flatten_with_names(tree, is_masked)
    return [name for name, node in zip(names, nodes, strict=True) if is_masked(node)]


def above(name: str) -> Iterator[str]:
    """The leaf and the nodes that it lies in, from the longest name to the empty."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""


def spread(
    argument: str,
    tree: Any,
    names: Sequence[str],
    others: Collection[str] = (),
    hidden: Collection[str] = (),
    is_leaf: Callable[[Any], bool] | None = None,
) -> list[Any]:
    """The entries of `tree`, a prefix of the params, for the leaves `names`.

    Of several entries that a leaf lies under, the longest is its own: where keys hold a
    "/", `mlp/~/linear_0` is no part of `mlp`. An entry has to match one of `names`, one
    of the `others`, whose entries are of no use, or a `hidden` node, of which only the
    caller sees the inside.
    """
    prefixes, values, _ = flatten_with_names(tree, is_leaf)
    entries = dict(zip(prefixes, values, strict=True))
    known = {"", *(node for name in (*names, *others, *hidden) for node in above(name))}
    for prefix in prefixes:
        if prefix not in known and set(hidden).isdisjoint(above(prefix)):
            raise ValueError(
                f"{argument}: the entry {prefix!r} of the tree matches no leaf; the"
                f" leaves are {listed([*names, *others])}."
            )
    found = [next((p for p in above(name) if p in entries), None) for name in names]
    for name, prefix in zip(names, found, strict=True):
        if prefix is None:
            raise ValueError(
                f"{argument}: the tree has no entry for the leaf {name!r}; it has"
                f" entries for {listed(prefixes)}."
            )
    return [entries[prefix] for prefix in found if prefix is not None]


def call(argument: str, function: Callable[..., Any], params: Any) -> Any:
    """What a callable argument makes of the params, as `optax.masked` calls its own."""
    try:
        inspect.signature(function).bind(params)
    except TypeError as error:
        raise TypeError(
            f"{argument}: a callable is given the params and returns a pytree for them;"
            f" {function!r} does not take one argument: {error}."
        ) from error
    except ValueError:  # some builtins have no signature
        pass
    return function(params)


def listed(names: Sequence[str], most: int = 40) -> str:
    """The names as they appear in a message, cut when there are very many."""
    shown = ", ".join(repr(name) for name in names[:most]) or "none"
    rest = len(names) - most
    return shown if rest <= 0 else f"{shown} and {rest} more"
