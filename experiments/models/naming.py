"""What arrays are called in files of weights, and their place in a model.

A table is a list of rules, regex of a name in the file -> (path, transform). Of those
that match the whole name the first decides whose path the model has. Each network has
the tables of its own published weights beside it. Paths begin with `backbone/`, or with
`head/` for the head that the weights were trained with.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The side of a grid of positions in a file, at most: of images of 2048 pixels.
MOST_POSITIONS = 128

# From an array of the file to the shape that the model has, or as near as can be: an
# array whose own shape does not allow it is left alone. It may be an array of numpy's
# or be traced.
Transform = Callable[[Any, tuple[int, ...]], Any]


def as_is(array: Any, shape: tuple[int, ...]) -> Any:
    """The array as the file has it."""
    return array


def torch_kernel(array: Any, shape: tuple[int, ...]) -> Any:
    """From (out, in) to (in, out), and from (out, in, h, w) to (h, w, in, out).

    A convolution's kernel that lies so already is left so.
    """
    if array.ndim == 2:
        return array.T
    if array.ndim != 4 or array.shape == shape:
        return array
    return array.transpose(2, 3, 1, 0)


def depthwise_kernel(array: Any, shape: tuple[int, ...]) -> Any:
    """From Keras's (h, w, c, 1) to (h, w, 1, c)."""
    return array.transpose(0, 1, 3, 2) if array.ndim == 4 else array


def class_token(array: Any, shape: tuple[int, ...]) -> Any:
    """From any vector to (1, 1, width)."""
    return array.reshape(shape) if array.size == math.prod(shape) else array


def position_table(array: Any, shape: tuple[int, ...]) -> Any:
    """To (1, 1 + grid x grid, width), for another grid as timm and open_clip do.

    That is by bicubic interpolation without aliasing.
    """
    if array.ndim == 2:
        array = array.reshape(1, *array.shape)
    if array.ndim != 3 or array.shape[::2] != shape[::2]:
        return array
    length, wanted, width = array.shape[1] - 1, shape[1] - 1, shape[2]
    side, new_side = math.isqrt(max(length, 0)), math.isqrt(wanted)
    if length == wanted or side**2 != length or not 0 < side <= MOST_POSITIONS:
        return array
    grid = jax.image.resize(
        array[:, 1:].reshape(side, side, width),
        (new_side, new_side, width),
        "bicubic",
    )
    return jnp.concatenate([array[:, :1], grid.reshape(1, wanted, width)], 1)


def bias_table(array: Any, shape: tuple[int, ...]) -> Any:
    """To (offsets, heads) of another window, as Swin's authors do.

    That is by torch's bicubic interpolation, of other coefficients than that of jax.
    """
    if array.ndim != 2 or array.shape[1] != shape[1]:
        return array
    side, new_side = math.isqrt(array.shape[0]), math.isqrt(shape[0])
    if array.shape == shape or side**2 != len(array) or not 0 < side <= MOST_POSITIONS:
        return array
    weights = _cubic_weights(side, new_side)
    grid = array.reshape(side, side, -1)
    return jnp.einsum("ih,jw,hwc->ijc", weights, weights, grid).reshape(shape)


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """What each of the new points takes of the old ones."""
    a = -0.75
    at = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old), np.float32)
    for neighbour in range(-1, 3):
        point = np.floor(at).astype(int) + neighbour
        x = np.abs(at - point)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * x * a - 4 * a
        # Beyond the edge there is the edge.
        points = np.arange(new), point.clip(0, old - 1)
        np.add.at(weights, points, np.where(x <= 1, near, far))
    return weights


def flax_kernel(array: Any, shape: tuple[int, ...]) -> Any:
    """From (in, heads, features) and (heads, features, out) to (in, out).

    The bias of queries, keys and values is (heads, features) there.
    """
    if array.ndim != len(shape) + 1 or array.size != math.prod(shape):
        return array
    joined = array.shape[0] == shape[0] or array.shape[-1] == shape[-1]
    return array.reshape(shape) if joined or len(shape) == 1 else array


class Rule(NamedTuple):
    """Where the arrays go whose names a regular expression matches.

    Attributes:
      pattern: has to match the whole name.
      path: template as for `re.Match.expand`, dots in groups become `/`; several for an
        array that is split along its last axis; none for one that no model has a use
        for.
      transform: from the file's layout to ours.
    """

    pattern: str
    path: str | tuple[str, ...]
    transform: Transform = as_is

    @property
    def paths(self) -> tuple[str, ...]:
        """The templates, one or several."""
        return (self.path,) if isinstance(self.path, str) else self.path


class Table(NamedTuple):
    """The rules for one source of weights.

    Attributes:
      source: what the file is, in words for a message.
      rules: in order of precedence.
    """

    source: str
    rules: Sequence[Rule]


OWN = Table("this package's own names", [Rule("((?:backbone|decoder|head)/.+)", r"\1")])
"""Serves every network."""

# What a module's arrays are called there and here. A `weight` is that of a convolution
# or linear layer, or that of a norm: whichever the model has.
Leaves = Sequence[Rule]
# Torch's own attention has an `in_proj_weight`.
TORCH: Leaves = (
    Rule("[._]weight", "/kernel", torch_kernel),
    Rule("[._]weight", "/scale"),
    Rule("[._]bias", "/bias"),
    Rule(r"\.running_mean", "/mean"),
    Rule(r"\.running_var", "/var"),
    Rule(r"\.num_batches_tracked", ()),
)
KERAS: Leaves = (
    Rule(r"\.kernel", "/kernel"),
    Rule(r"\.depthwise_kernel", "/kernel", depthwise_kernel),
    Rule(r"\.gamma", "/scale"),
    Rule(r"\.beta", "/bias"),
    Rule(r"\.moving_mean", "/mean"),
    Rule(r"\.moving_variance", "/var"),
)
FLAX: Leaves = (
    Rule("/kernel", "/kernel", flax_kernel),
    Rule("/bias", "/bias", flax_kernel),
    Rule("/scale", "/scale"),
)
# Arrays that are no module's, by the last part of their path.
TOKENS = {
    "cls": class_token,
    "pos_embed": position_table,
    "bias_table": bias_table,
    "embedding": as_is,
    "kernel": as_is,  # of (in, out)
    "logit_scale": as_is,
}


def published(
    source: str,
    leaves: Leaves,
    places: Mapping[str, str | tuple[str, ...]],
    prefix: str = "",
    unused: str | None = None,
) -> Table:
    """The table of a file whose names are those of modules.

    Args:
      source: what the file is, in words for a message.
      leaves: what a module's arrays are called: `TORCH`, `KERAS` or `FLAX`.
      places: regex of a module's name -> its path, or several for one that is split.
        Here `#` is any number, in the path the one that stands there in the name.
        Paths are those of the backbone, but for `head`; one that ends as `TOKENS` do is
        that of an array and no module.
      prefix: regex of what comes before all of these names.
      unused: regex of whole names of arrays that the network has no use for.
    """
    rules = [Rule(unused, ())] if unused else []
    for name, place in places.items():
        pattern = prefix + name.replace("#", r"(\d+)")
        paths = [_path(path) for path in Rule("", place).paths]
        if (last := paths[0].split("/")[-1]) in TOKENS:
            rules += [Rule(pattern, paths[0], TOKENS[last])]
            continue
        for leaf in leaves:
            ends = [path + end for path in paths for end in leaf.paths]
            rules += [Rule(pattern + leaf.pattern, tuple(ends), leaf.transform)]
    return Table(source, rules)


def _path(place: str) -> str:
    """As a template: every `#` becomes the next group."""
    numbers = itertools.count(1)
    path = re.sub("#", lambda _: rf"\{next(numbers)}", place)
    return path if path == "head" else f"backbone/{path}"
