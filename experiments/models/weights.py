"""Fills a model with published weights from an npz, safetensors or torch file."""

import collections
import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.models.backbone import Backbone, names_and_leaves, replace
from experiments.models.files import (
    FLOATS,
    Stored,
    WeightsError,
    contents,
    listed,
    unfit,
    values,
)
from experiments.models.naming import OWN, Rule, Table

__all__ = ["WeightsError", "load_weights", "located", "shapes_in"]

Shapes = Mapping[str, tuple[int, ...]]

SAVED = ("model.safetensors", "pytorch_model.bin")  # by save_pretrained
NORM = ("scale", "bias", "mean", "var")  # of a batch norm
ADVICE = (
    "Choose the model that the weights were made for, or load_weights with a table of"
    " your own."
)


def located(path: str | pathlib.Path) -> pathlib.Path:
    """The file that is meant, fetched if it is `hf:organisation/name` and not cached.

    Of a folder that `save_pretrained` of transformers or timm left, that in it.

    Raises:
      WeightsError: it cannot be fetched.
    """
    from experiments.models import hub  # few weights come from there

    if str(path).startswith(hub.PREFIX):
        return hub.fetch(str(path))
    path = pathlib.Path(path).expanduser()
    saved = (path / name for name in SAVED)
    return next((file for file in saved if file.is_file()), path)


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
      path: `.npz`, `.safetensors`, or `.pt`, `.pth`, `.bin`, `.tar` of torch; a folder
        of `save_pretrained`; or
        `hf:organisation/name` of the Hugging Face hub, with `:file` and `@revision` if
        need be. Pickled code is never run: of a torch file only tensors are read.
      table: names in the file -> paths in the model. By default the one among those of
        this backbone that knows most names.

    Raises:
      WeightsError: the file cannot be had or read, lacks parameters of the backbone,
        has arrays that the table gives no place, shapes do not agree, or numbers are
        not finite; names them.
    """
    path = located(path)
    stored, places, epsilon = _fitted(model, path, table)
    arrays = {}
    for name, array in values(path, {name: stored[name] for name in places}).items():
        arrays |= places[name].arrays(array)
    for name in arrays:
        if name.endswith("/var") and np.min(arrays[name]) < 0:
            raise unfit(path, f"expected variances for {name}, got negative numbers.")
    arrays = arrays if epsilon is None else fold(arrays, epsilon)
    replace(model, lambda name, leaf: arrays.get(name, leaf))


def fits(model: Any, path: str | pathlib.Path) -> bool:
    """Whether `load_weights` finds all that a model needs in a file, by shapes only."""
    try:
        _fitted(model, located(path))
    except WeightsError:
        return False
    return True


def _fitted(
    model: Any, path: pathlib.Path, table: Table | Sequence[Rule] | None = None
) -> tuple[dict[str, Stored], dict[str, "_Place"], float | None]:
    """What a file holds, its places in the model, and the epsilon of norms to fold."""
    stored = contents(path)
    if table is None:
        table = _choose(model.backbone.tables, list(stored), path)
    elif not isinstance(table, Table):
        table = Table("a file for the given table", table)
    shapes = {name: tuple(x.shape) for name, x in names_and_leaves(model).items()}
    # Published weights have batch norm; a network without takes it up in its kernels.
    ends = [
        path for name in stored for _, paths in _matches(table, name) for path in paths
    ]
    folds = any(path.endswith("/mean") for path in ends)
    epsilon = model.backbone.folded_epsilon if folds else None
    shapes = shapes if epsilon is None else with_norms(shapes)
    places, problems = _places(stored, table, shapes, model.backbone.leaves_out)
    if problems:
        raise unfit(
            path,
            f"{table.source}, which does not fit the {type(model.backbone).__name__}; "
            + "; ".join(f"{what}: {listed(names)}" for what, names in problems.items())
            + f". {ADVICE}",
        )
    return stored, places, epsilon


def shapes_in(path: str | pathlib.Path, tables: Sequence[Table]) -> Shapes:
    """The shapes of a file's arrays, laid out as here, by their paths in a network.

    So one learns how large the network is, or for how many classes its head.

    Args:
      path: as of `load_weights`.
      tables: of the network.

    Raises:
      WeightsError: the file cannot be had or read, or is of another network.
    """
    path = located(path)
    stored = contents(path)
    table = _choose(tables, list(stored), path)
    shapes = {}
    for name, array in stored.items():
        rule, paths = next(_matches(table, name), (None, ()))
        if rule is not None and len(paths) == 1:
            announced = jax.ShapeDtypeStruct(array.shape, np.float32)
            ours = jax.eval_shape(lambda x, rule=rule: rule.transform(x, ()), announced)
            shapes[paths[0]] = ours.shape
    return shapes


def _choose(tables: Sequence[Table], names: list[str], path: pathlib.Path) -> Table:
    """The table that gives most arrays a place, if it is one of these."""

    def known(table: Table) -> int:
        return sum(next(_matches(table, name), None) is not None for name in names)

    expected = (*tables, OWN)
    best = max(expected, key=known)
    other = max(_all_tables(Backbone), key=known)
    if known(best) and known(best) >= known(other):
        return best
    guess = f"looks like {other.source}" if known(other) else "holds"
    wanted = " or ".join(table.source for table in expected)
    raise unfit(path, f"expected {wanted}; it {guess}: {listed(names)}. {ADVICE}")


def _all_tables(network: type[Backbone]) -> list[Table]:
    children = map(_all_tables, network.__subclasses__())
    return [*network.tables, *itertools.chain.from_iterable(children)]


class _Place(NamedTuple):
    """Where an array of the file goes: the shapes by path, several if it is split."""

    rule: Rule
    shapes: Shapes

    def arrays(self, array: Any) -> dict[str, Any]:
        """From the file's layout to ours, by path in the model."""
        shape, parts = next(iter(self.shapes.values())), len(self.shapes)
        whole = shape if parts == 1 else (*shape[:-1], parts * shape[-1])
        array = self.rule.transform(array, whole)
        if parts == 1 or array.shape != whole:
            return dict.fromkeys(self.shapes, array)
        edges = [i * shape[-1] for i in range(parts + 1)]
        pieces = (array[..., a:b] for a, b in itertools.pairwise(edges))
        return dict(zip(self.shapes, pieces, strict=True))


def _places(
    stored: Mapping[str, Stored],
    table: Table,
    shapes: Shapes,
    leaves_out: Callable[[str], bool],
) -> tuple[dict[str, _Place], dict[str, list[str]]]:
    """The place of every array that the model takes, and what is wrong, by shapes only.

    A head is taken if it fits and left out if not: a new one replaces it then. So is
    what `leaves_out` says the network goes without.
    """
    places: dict[str, _Place] = {}
    settled: set[str] = set()
    problems: dict[str, list[str]] = collections.defaultdict(list)
    for name, array in stored.items():
        matches = list(_matches(table, name))
        fitting = [match for match in matches if shapes.keys() >= set(match[1])]
        rule, paths = (*fitting, *matches, (None, ()))[0]
        spare = paths and (_in_head(paths[0]) or all(map(leaves_out, paths)))
        if not fitting and not spare:
            problems["no place in the model for"].append(name)
        if not fitting or rule is None or not paths:
            continue
        place = _Place(rule, {path: shapes[path] for path in paths})
        # Traced, as an array that a file announces may be larger than any memory.
        ours = jax.eval_shape(
            place.arrays, jax.ShapeDtypeStruct(array.shape, np.float32)
        )
        wrong = next((path for path in paths if ours[path].shape != shapes[path]), "")
        if _in_head(wrong):
            continue
        if array.kind not in FLOATS:
            problems["expected floating-point numbers"].append(f"{name} ({array.kind})")
        elif wrong:
            problems["shapes differ"].append(
                f"{name} {array.shape} for {wrong} {shapes[wrong]}"
            )
        elif settled.isdisjoint(paths):
            places[name] = place
        else:
            problems["a second array for"].append(paths[0])
        settled |= set(paths)
    missing = [p for p in shapes if p not in settled and not _in_head(p)]
    return places, problems | ({"missing in the file": missing} if missing else {})


def _in_head(path: str) -> bool:
    return path.startswith(("head/", "decoder/"))


_compiled = functools.cache(re.compile)  # more of them than re itself would keep


def _matches(table: Table, name: str) -> Iterator[tuple[Rule, tuple[str, ...]]]:
    """The rules for a name in the file, and the paths that they give."""
    for rule in table.rules:
        if match := _compiled(rule.pattern).fullmatch(name):
            yield rule, tuple(match.expand(p).replace(".", "/") for p in rule.paths)


# ---- Batch norm, folded into convolutions for a network without it ---------------


def with_norms(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of the same network with a norm in place of every bias."""
    norms = _norms(shapes)
    added = {
        f"{norm}/{leaf}": shapes[f"{conv}/kernel"][-1:]
        for conv, norm in norms.items()
        for leaf in NORM
    }
    biases = {f"{conv}/bias" for conv in norms}
    return {name: s for name, s in shapes.items() if name not in biases} | added


def fold(arrays: dict[str, Any], epsilon: float) -> dict[str, Any]:
    """Kernels scaled and biases made so that the norms are not needed."""
    folded = {name: a for name, a in arrays.items() if _in_head(name)}
    for conv, norm in _norms(arrays).items():
        scale, bias, mean, var = (arrays[f"{norm}/{leaf}"] for leaf in NORM)
        factor = scale / np.sqrt(var + epsilon)
        folded[f"{conv}/kernel"] = arrays[f"{conv}/kernel"] * factor.reshape(
            1, 1, 1, -1
        )
        folded[f"{conv}/bias"] = bias - mean * factor
    return folded


def _norms(names: Iterable[str]) -> dict[str, str]:
    """The norm of every convolution: `bn1` of `conv1`, `x_bn` of a module `x`."""
    kernels = filter(re.compile("backbone/.*/kernel").fullmatch, names)
    convs = [name.removesuffix("/kernel") for name in kernels]
    numbered = [re.sub(r"/conv(\d+)$", r"/bn\1", conv) for conv in convs]
    pairs = zip(convs, numbered, strict=True)
    return {conv: norm if norm != conv else f"{conv}_bn" for conv, norm in pairs}
