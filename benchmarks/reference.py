"""How is the published PyTorch step run, from a clone of the user's own?

The code is github.com/GT-RIPL/FTP; nothing of it is part of this project.
"""

import importlib
import importlib.util
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.contenders import LEARNING_RATE
from benchmarks.timing import Repeated
from ftp_optax import flax_axes

SOURCE = "https://github.com/GT-RIPL/FTP"
FILE = "util/FTP.py"


class CloneError(ValueError):
    """The published step cannot be run."""


def load(clone: pathlib.Path) -> ModuleType:
    """The module `util/FTP.py` of a clone of the published code.

    Raises:
      CloneError: there is no such file, it has no `AdamP`, or it does not import.
    """
    path = clone / FILE
    if not path.is_file():
        raise CloneError(
            f"{clone} has no {FILE}: expected a clone of {SOURCE} (git clone {SOURCE})"
        )
    torch()
    spec = importlib.util.spec_from_file_location("published_ftp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever is wrong with it
        raise CloneError(f"{path} cannot be imported: {error}") from error
    if not hasattr(module, "AdamP"):
        raise CloneError(f"{path} has no AdamP: expected the file of {SOURCE}")
    return module


def torch() -> Any:
    """The module torch.

    Raises:
      CloneError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise CloneError(
            'the published step needs torch (pip install -e ".[test]")'
        ) from error


def describe() -> dict[str, Any]:
    """The version of torch, and its threads, which are left at their default."""
    return {"version": torch().__version__, "threads": torch().get_num_threads()}


class Published(Repeated):
    """The published AdamW + FTP on a tree's weights, laid out as PyTorch has them."""

    def __init__(self, module: ModuleType, params: Mapping[str, Any], grads: Any):
        """Copies params and grads.

        Args:
          module: from `load`.
          params: nested, in flax layout.
          grads: likewise.
        """
        tensor = torch().from_numpy
        weights = [tensor(w).requires_grad_() for w in in_torch_layout(params)]
        for weight, grad in zip(weights, in_torch_layout(grads), strict=True):
            weight.grad = tensor(grad)
        group = {
            "params": weights,
            "name": [str(i) for i in range(len(weights))],
            "pre": [weight.detach().clone() for weight in weights],
        }
        optimizer = module.AdamP([group], lr=LEARNING_RATE, weight_decay=1e-4)

        def step() -> tuple[()]:
            optimizer.step()
            return ()

        super().__init__(step)


def in_torch_layout(tree: Any) -> list[np.ndarray]:
    """Copies of the leaves with their rows first: (n,), (out, in), (out, in, h, w)."""
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array, rows = np.asarray(leaf), flax_axes({name: leaf})[name].rows
        assert not isinstance(rows, int)
        array = np.moveaxis(array, rows, range(len(rows)))
        array = array.reshape(-1, *array.shape[len(rows) :]) if rows else array.ravel()
        if array.ndim == 4:  # a convolution's h, w, in
            array = np.moveaxis(array, -1, 1)
        elif name.endswith("kernel"):  # heads and their features on attention's way out
            array = array.reshape(len(array), -1)
        leaves.append(np.array(array, order="C"))  # never a view
    return leaves
