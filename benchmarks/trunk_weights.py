"""Reads the ResNet-18 trunk from an npz with torchvision's names."""

import pathlib
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contenders import Params

# Names in the file and in the model; kernels lie as HWIO in both.
RENAMES = (
    (r"\.downsample\.0\.", ".downsample."),
    (r"\.weight$", ".kernel"),
    (r"\.", "/"),
)


class WeightsError(ValueError):
    """The file does not hold the trunk."""


def load(path: pathlib.Path, params: Params) -> Params:
    """The params with everything but the head taken from the file.

    Args:
      path: npz with `conv1.weight`, `layer1.0.conv1.weight`, ..., biases included.
      params: of `ResNet18Trunk`.

    Raises:
      WeightsError: the file is missing, is no npz, or holds other names or shapes.
    """
    try:
        with np.load(path) as file:
            found = {_renamed(name): file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as an npz: {error}") from error

    def pick(key_path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(key_path, simple=True, separator="/")
        if name.startswith("head/"):
            return leaf
        shape = found[name].shape if name in found else None
        if shape != leaf.shape:
            raise WeightsError(
                f"{path}: expected {name} of shape {leaf.shape}, found {shape}"
            )
        return jnp.array(found[name], leaf.dtype)

    return jax.tree.map_with_path(pick, params)


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
