"""What arrays are called in files of weights, and their place in a model.

A table is a list of rules, regex of a name in the file -> (path, transform); the first
one that matches the whole name decides. Each network has the tables of its own
published weights beside it. Paths begin with `backbone/`, or with `head/`
for the head that the weights were trained with.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

Shapes = Sequence[tuple[int, ...]]
# From an array of the file, and our shapes, to our arrays: one for each path.
Transform = Callable[[np.ndarray, Shapes], Sequence[np.ndarray]]


def as_is(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """The array as the file has it."""
    return [array]


def conv_kernel(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """From torch's (out, in, h, w) to (h, w, in, out); leaves what lies so already."""
    if array.shape == shapes[0] or array.ndim != 4:
        return [array]
    return [array.transpose(2, 3, 1, 0)]


def linear_kernel(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """From torch's (out, in) to (in, out)."""
    return [array.T]


def depthwise_kernel(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """From Keras's (h, w, c, 1) to (h, w, 1, c)."""
    return [np.swapaxes(array, -1, -2)]


def position_table(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """To (1, 1 + grid x grid, width), for another grid by bicubic interpolation."""
    array = array.reshape(1, *array.shape[-2:])
    length, wanted = array.shape[1] - 1, shapes[0][1] - 1
    side, new_side = math.isqrt(length), math.isqrt(wanted)
    if length == wanted or side**2 != length:
        return [array]
    width = array.shape[-1]
    grid = jax.image.resize(
        array[:, 1:].reshape(side, side, width).astype(np.float32),
        (new_side, new_side, width),
        "bicubic",
        antialias=False,
    )
    return [np.concatenate([array[:, :1], np.reshape(grid, (1, wanted, width))], 1)]


def class_token(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """To (1, 1, width)."""
    return [array.reshape(1, 1, -1)]


def fused_kernel(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """From (query, key and value features, in) to three of (in, features)."""
    return np.split(array.T, len(shapes), axis=-1)


def fused_bias(array: np.ndarray, shapes: Shapes) -> Sequence[np.ndarray]:
    """From the bias of query, key and value to three."""
    return np.split(array, len(shapes))


class Rule(NamedTuple):
    """Where the arrays go whose names a regular expression matches.

    Attributes:
      pattern: has to match the whole name.
      path: template as for `re.Match.expand`, dots in groups become `/`; several for an
        array that is split; none for one that the model has no use for.
      transform: from the file's layout to ours.
    """

    pattern: str
    path: str | tuple[str, ...]
    transform: Transform = as_is


class Table(NamedTuple):
    """The rules for one source of weights.

    Attributes:
      source: what the file is, in words for a message.
      rules: in order of precedence.
    """

    source: str
    rules: Sequence[Rule]


def ignore(pattern: str) -> Rule:
    """A rule for arrays that the model has no use for."""
    return Rule(pattern, ())


def norm_rules(pattern: str, path: str, names: Sequence[str]) -> list[Rule]:
    """Rules for scale, bias, mean and variance, which the file calls `names`."""
    ours = ("scale", "bias", "mean", "var")
    rules = zip(names, ours, strict=True)
    return [Rule(rf"{pattern}\.{name}", f"{path}/{our}") for name, our in rules]


def torch_batch_norm(pattern: str, path: str) -> list[Rule]:
    """Rules for a `torch.nn.BatchNorm2d`."""
    names = ("weight", "bias", "running_mean", "running_var")
    counter = ignore(rf"{pattern}\.num_batches_tracked")
    return [*norm_rules(pattern, path, names), counter]


def torch_conv(pattern: str, path: str) -> list[Rule]:
    """Rules for a `torch.nn.Conv2d`."""
    kernel = Rule(rf"{pattern}\.weight", f"{path}/kernel", conv_kernel)
    return [kernel, Rule(rf"{pattern}\.bias", f"{path}/bias")]


def torch_linear(pattern: str, path: str) -> list[Rule]:
    """Rules for a `torch.nn.Linear`."""
    kernel = Rule(rf"{pattern}\.weight", f"{path}/kernel", linear_kernel)
    return [kernel, Rule(rf"{pattern}\.bias", f"{path}/bias")]


def torch_layer_norm(pattern: str, path: str) -> list[Rule]:
    """Rules for a `torch.nn.LayerNorm`."""
    scale = Rule(rf"{pattern}\.weight", f"{path}/scale")
    return [scale, Rule(rf"{pattern}\.bias", f"{path}/bias")]


OWN = Table("this package's own names", [Rule("((?:backbone|head)/.+)", r"\1")])
"""Serves every network."""
