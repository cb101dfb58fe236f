"""What the layers did: how far each one moved, and how its radius developed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.report.gather import Run
from experiments.report.summarise import REFERENCE, Group, Trial


class Radii(NamedTuple):
    """The radii of one run.

    Attributes:
      layers: paths in forward order.
      steps: `(steps,)`.
      values: `(layers, steps)`, NaN where there was none.
    """

    layers: list[str]
    steps: np.ndarray
    values: np.ndarray


def radii(run: Run) -> Radii | None:
    """The radii over a run's steps, or `None` where its method has none."""
    trace = run.record.get("trace") or {}
    found = trace.get("radius") or {}
    if not found:
        return None
    layers = in_order(run, found)
    values = [[np.nan if v is None else v for v in found[name]] for name in layers]
    matrix = np.asarray(values, np.float64)
    if not np.isfinite(matrix).any():
        return None
    return Radii(layers, np.asarray(trace["step"]), matrix)


def in_order(run: Run, names: Mapping[str, object]) -> list[str]:
    """Leaves in the order in which the network uses them; unknown ones last."""
    position = {name: i for i, name in enumerate(run.record["layers"])}
    return sorted(names, key=lambda name: (position.get(name, len(position)), name))


def drifts(trial: Trial) -> dict[str, float]:
    """Mean over seeds of each leaf's drift, in forward order."""
    return _means(trial, lambda leaf: leaf.get("drift"))


def relative_drifts(trial: Trial) -> dict[str, float]:
    """Mean over seeds of drift / norm; without leaves that began at zero."""

    def relative(leaf: Mapping[str, float | None]) -> float | None:
        drift, norm = leaf.get("drift"), leaf.get("norm")
        return None if drift is None or not norm else drift / norm

    return _means(trial, relative)


def final_radii(trial: Trial) -> dict[str, float]:
    """Mean over seeds of each leaf's radius at the selected step."""
    return _means(trial, lambda leaf: leaf.get("radius"))


def collapsed(trial: Trial, below: float) -> list[int]:
    """How many leaves have a smaller radius in each run, at the selected step."""
    names = final_radii(trial)
    every = [run.record["leaves"] for run in trial.runs.values()]
    return [sum(leaves[name]["radius"] < below for name in names) for leaves in every]


def _means(trial: Trial, read) -> dict[str, float]:
    runs = list(trial.runs.values())
    found: dict[str, float] = {}
    for name in in_order(runs[0], runs[0].record["leaves"]):
        values = [read(run.record["leaves"].get(name, {})) for run in runs]
        if all(value is not None for value in values):
            found[name] = float(np.mean(values))
    return found


def weights(names: Sequence[str]) -> list[str]:
    """The kernels among the leaves: biases and scales move on a scale of their own."""
    kernels = [name for name in names if name.rpartition("/")[2] in _KERNELS]
    return kernels or list(names)


_KERNELS = ("kernel", "weight", "embedding")


def short(name: str) -> str:
    """A leaf's name as plots and tables show it."""
    name = name.removeprefix("backbone/")
    head, _, last = name.rpartition("/")
    return head if last in _KERNELS and head else name


def runs_with_radii(group: Group) -> list[Run]:
    """The chosen runs that have radii, FTP's first, by method and seed."""
    found = [
        run
        for method in group.methods.values()
        for run in method.chosen.runs.values()
        if radii(run) is not None
    ]
    return sorted(found, key=lambda run: not run.method.startswith(REFERENCE))
