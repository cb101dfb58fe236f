"""Fills a model with published weights from an npz, safetensors or torch file."""

import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.models.backbone import Backbone, names_and_leaves, replace
from experiments.models.naming import OWN, Rule, Table

Arrays = dict[str, np.ndarray]

NORM = ("scale", "bias", "mean", "var")  # of a batch norm
# What training scripts wrap a state dict in.
WRAPPERS = ("state_dict", "model_state_dict", "model")


class WeightsError(ValueError):
    """A file of weights is missing, unreadable or of another architecture."""


def load_weights(
    model: Any,
    path: str | pathlib.Path,
    table: Table | Sequence[Rule] | None = None,
) -> None:
    """Fills the model's backbone in place, batch norm's statistics included.

    The head is filled as well if the file has one of the same shape. A ResNet without
    batch norm takes weights with it, too: they are folded into kernels and biases.

    Args:
      model: as `experiments.models.create` makes it.
      path: `.npz`, `.safetensors`, or `.pt`, `.pth`, `.bin` of torch. Pickled code is
        never run: of a torch file only tensors are read.
      table: names in the file -> paths in the model. By default the one among those of
        this backbone that knows most names.

    Raises:
      WeightsError: the file cannot be read, lacks parameters of the backbone, has
        arrays that the table gives no place, or shapes do not agree; names them.
    """
    path = pathlib.Path(path)
    arrays = read(path)
    if table is None:
        table = _choose(model, arrays, path)
    elif not isinstance(table, Table):
        table = Table("a file for the given table", table)
    shapes = {name: tuple(x.shape) for name, x in names_and_leaves(model).items()}
    # Published weights have batch norm; a network without takes it up in its kernels.
    folds = _has_statistics(arrays, table)
    epsilon = model.backbone.folded_epsilon if folds else None
    shapes = shapes if epsilon is None else with_norms(shapes)
    placed, problems = _place(arrays, table, shapes, model.backbone.leaves_out)
    if problems:
        raise WeightsError(
            f"{path}, {table.source}, does not fit the {type(model.backbone).__name__}"
            + "".join(f"\n  {problem}" for problem in problems)
            + "\nChoose the model that the weights were made for, or load_weights with"
            " a table of your own."
        )
    if epsilon is not None:
        placed = fold(placed, epsilon)
    replace(model, lambda name, leaf: placed.get(name, leaf))


def _has_statistics(arrays: Arrays, table: Table) -> bool:
    paths = (path for name in arrays for path in _destination(table, name)[1])
    return any(path.endswith("/mean") for path in paths)


def _choose(model: Any, arrays: Arrays, path: pathlib.Path) -> Table:
    """The table that gives most arrays a place, if it is one for this backbone."""

    def known(table: Table) -> int:
        return sum(_destination(table, name)[0] is not None for name in arrays)

    expected = (*model.backbone.named_by(), OWN)
    best = max(expected, key=known)
    networks = Backbone.__subclasses__()
    other = max((t for network in networks for t in network.tables), key=known)
    if known(best) and known(best) >= known(other):
        return best
    guess = f"It looks like {other.source}" if known(other) else "It holds"
    raise WeightsError(
        f"{path}: expected {' or '.join(table.source for table in expected)}."
        f" {guess}: {_listed(list(arrays))}. Choose the model that the weights were"
        " made for, or load_weights with a table of your own."
    )


def _place(
    arrays: Arrays,
    table: Table,
    shapes: Mapping[str, tuple[int, ...]],
    leaves_out: Callable[[str], bool],
) -> tuple[Arrays, list[str]]:
    """Arrays by path in the model, and what is wrong with them.

    A head is taken if it fits and left out if not: a new one replaces it then. So is
    what `leaves_out` says the network goes without.
    """
    placed: Arrays = {}
    unused: list[str] = []
    mismatches: dict[str, str] = {}
    for name, array in arrays.items():
        rule, paths = _destination(table, name)
        if rule is None or not shapes.keys() >= set(paths):
            spare = paths and (_in_head(paths[0]) or all(map(leaves_out, paths)))
            unused += [] if spare else [name]
            continue
        targets = [shapes[path] for path in paths]
        pieces = rule.transform(array, targets) if paths else ()
        for path, piece, target in zip(paths, pieces, targets, strict=True):
            if piece.shape == target:
                placed[path] = piece
            elif not _in_head(path):
                mismatches[path] = f"{name} {array.shape} for {path} {target}"
    settled = placed.keys() | mismatches.keys()
    missing = [path for path in shapes if path not in settled and not _in_head(path)]
    lists = {
        "missing in the file": missing,
        "no place in the model for": unused,
        "shapes differ": list(mismatches.values()),
    }
    return placed, [
        f"{what}: {_listed(names)}" for what, names in lists.items() if names
    ]


def _in_head(path: str) -> bool:
    return path.startswith("head/")


def _destination(table: Table, name: str) -> tuple[Rule | None, tuple[str, ...]]:
    """The first rule for a name in the file, and the paths that it gives."""
    for rule in table.rules:
        if match := re.fullmatch(rule.pattern, name):
            paths = (rule.path,) if isinstance(rule.path, str) else rule.path
            return rule, tuple(match.expand(p).replace(".", "/") for p in paths)
    return None, ()


def _listed(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


# ---- Batch norm, folded into convolutions for a network without it ---------------


def norm_of(conv: str) -> str:
    """The norm after a convolution: `bn1` for `conv1`, `x_bn` for a module `x`."""
    module, _, name = conv.rpartition("/")
    known = name.startswith("conv")
    return f"{module}/{name.replace('conv', 'bn') if known else f'{name}_bn'}"


def with_norms(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
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


# ---- Files -------------------------------------------------------------------------


def read(path: pathlib.Path) -> Arrays:
    """All arrays of a file by name.

    Raises:
      WeightsError: the file is missing, damaged, or of another kind.
    """
    readers = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".pt": _read_torch,
        ".pth": _read_torch,
        ".bin": _read_torch,
    }
    if path.suffix not in readers:
        raise WeightsError(
            f"{path}: expected a file of weights, {', '.join(readers)}; got"
            f" {path.suffix or 'no suffix'!r}"
        )
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    arrays = readers[path.suffix](path)
    if not arrays:
        raise WeightsError(f"{path} holds no arrays")
    return arrays


def _read_npz(path: pathlib.Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as an npz: {error}") from error


def _read_safetensors(path: pathlib.Path) -> Arrays:
    try:
        from safetensors import SafetensorError
        from safetensors.flax import load_file
    except ImportError as error:
        raise WeightsError(f"{path}: pip install safetensors to read it") from error
    try:
        # Through jax, as numpy alone has no bfloat16.
        return {name: np.asarray(array) for name, array in load_file(path).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path} is no safetensors file: {error}") from error


def _read_torch(path: pathlib.Path) -> Arrays:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: pip install torch to read it, or save it as safetensors"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, and pickled code is never run. Save the"
            " bare state_dict: torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # a damaged file fails in any way
        raise WeightsError(f"{path} cannot be read as torch's: {error}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: expected a state_dict, got {type(content).__name__}"
        )
    return {
        name.removeprefix("module."): value.float().numpy()
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }
