"""How is the published PyTorch step run, from a clone of the user's own?

The code is github.com/GT-RIPL/FTP; nothing of it is part of this project.
"""

import importlib
import importlib.util
import pathlib
import time
from typing import Any

import jax
import numpy as np

from benchmarks.command import StoppedError
from benchmarks.contenders import LEARNING_RATE, Params
from benchmarks.measure import Block
from ftp_optax import flax_axes

SOURCE = "https://github.com/GT-RIPL/FTP"
FILE = "util/FTP.py"


def load(clone: pathlib.Path) -> Any:
    """The module `util/FTP.py` of a clone; raises if it cannot be used."""
    path = clone / FILE
    if not path.is_file():
        raise StoppedError(
            f"--reference: {clone} has no {FILE}: expected a clone of {SOURCE}"
            f" (git clone {SOURCE})"
        )
    torch()
    spec: Any = importlib.util.spec_from_file_location("published_ftp", path)
    module: Any = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever is wrong with it
        raise StoppedError(
            f"--reference: {path} cannot be imported: {error}"
        ) from error
    if not hasattr(module, "AdamP"):
        raise StoppedError(
            f"--reference: {path} has no AdamP: expected that of {SOURCE}"
        )
    return module


def torch() -> Any:
    """The module torch, with its default number of threads."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        needs = 'the published step needs torch (pip install -e ".[test]")'
        raise StoppedError(f"--reference: {needs}") from error


def described() -> dict[str, Any]:
    """The version of torch, and its number of threads."""
    return {"version": torch().__version__, "threads": torch().get_num_threads()}


def published(module: Any, params: Params, grads: Params) -> Block:
    """The published AdamW + FTP on copies of a tree, laid out as PyTorch has them."""
    weights = [torch().from_numpy(w).requires_grad_() for w in in_torch_layout(params)]
    for weight, grad in zip(weights, in_torch_layout(grads), strict=True):
        weight.grad = torch().from_numpy(grad)
    group = {
        "params": weights,
        "name": [str(i) for i in range(len(weights))],
        "pre": [weight.detach().clone() for weight in weights],
    }
    optimizer = module.AdamP([group], lr=LEARNING_RATE, weight_decay=1e-4)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.step()
        return (time.perf_counter() - began) / steps

    return run


def in_torch_layout(tree: Params) -> list[np.ndarray]:
    """Copies of the leaves with their rows first: (n,), (out, in), (out, in, h, w)."""
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array, rows = np.asarray(leaf), flax_axes({name: leaf})[name].rows
        assert not isinstance(rows, int)
        array = np.moveaxis(array, rows, range(len(rows)))
        if array.ndim == 4:  # a convolution's h, w, in
            array = np.moveaxis(array, -1, 1)
        elif name.endswith("kernel"):
            array = array.reshape(len(array), -1)
        leaves.append(np.array(array, order="C"))  # never a view
    return leaves
