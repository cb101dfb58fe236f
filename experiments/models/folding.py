"""Folds batch norm into convolutions, for a network without it."""

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Shape = tuple[int, ...]

NORM = ("scale", "bias", "mean", "var")


def norm_of(conv: str) -> str:
    """The norm after a convolution: `bn1` for `conv1`, `x_bn` for a module `x`."""
    module, _, name = conv.rpartition("/")
    known = name.startswith("conv")
    return f"{module}/{name.replace('conv', 'bn') if known else f'{name}_bn'}"


def with_norms(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of the same network with a norm in place of every bias."""
    convs = _convolutions(shapes)
    norms = {
        f"{norm_of(conv)}/{leaf}": (shapes[f"{conv}/kernel"][-1],)
        for conv in convs
        for leaf in NORM
    }
    biases = {f"{conv}/bias" for conv in convs}
    return {name: s for name, s in shapes.items() if name not in biases} | norms


def fold(arrays: Arrays, epsilon: float) -> Arrays:
    """Kernels scaled and biases made so that the norms are not needed."""
    folded = {name: a for name, a in arrays.items() if name.startswith("head/")}
    for conv in _convolutions(arrays):
        scale, bias, mean, var = (arrays[f"{norm_of(conv)}/{leaf}"] for leaf in NORM)
        factor = scale / np.sqrt(var + epsilon)
        kernel = arrays[f"{conv}/kernel"]
        folded[f"{conv}/kernel"] = kernel * factor.reshape(1, 1, 1, -1)
        folded[f"{conv}/bias"] = bias - mean * factor
    return folded


def _convolutions(names: Mapping[str, object]) -> list[str]:
    return [
        name.removesuffix("/kernel")
        for name in names
        if name.startswith("backbone/") and name.endswith("/kernel")
    ]
