"""What is read off records, by column, and how a column is called and written.

A column holds a figure of the run's selected parameters: `id_val`, which selects; `id`,
`ood` and `corruption`, means of the headline metric over the test sets of a group;
`domain/<name>`, a single test set; and calibration.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.statistics import Interval
from experiments.studies import GROUPS, Record
from experiments.tasks.task import Metric

KERNELS = ("kernel", "weight", "embedding")
DOMAIN = "domain/"  # prefix of the columns of single test sets
EXACT = 1e-12  # a half-width below this is rounding
# By key: the heading and what it holds. In the headline metric's unit and direction
# unless it is a ratio, or `_FIGURES` has it.
_HEADLINE = {
    "id_val": ("ID val", "In-distribution validation, which selects settings."),
    "id": ("ID test", "In-distribution test set."),
    "ood": ("OOD", "Mean over the out-of-distribution test sets."),
    "corruption": ("Corrupted", "Mean over corruptions and severities of the ID test."),
    "relative_robustness": ("OOD / ID", "Relative robustness, in per cent."),
    "corruption_robustness": ("Corr. / ID", "Relative robustness, in per cent."),
}
# In units of their own: (name, what it is, whether more is better, scale, digits).
_FIGURES = {
    "macro_accuracy": ("Macro", "mean recall of the classes", True, 100.0, 1),
    "ece": ("ECE", "expected calibration error", False, 100.0, 1),
    "nll": ("NLL", "negative log-likelihood", False, 1.0, 2),
}
_PLACES = {"id": "ID", "ood": "OOD", "corruption": "corr."}


class Column(NamedTuple):
    """How a column is shown: heading, what it holds, direction, scale and digits."""

    label: str
    hint: str
    higher: bool
    scale: float
    digits: int

    def text(self, value: Interval | None, sign: str = "") -> str:
        """Writes `98.1 ± 0.4`, or `98.1` where one value is all.

        Seeds that agree to the last digit are one value: what does not hang on the seed
        has no interval, and `± 0.0` would read as precision.
        """
        if value is None:
            return "–"
        mean = self.mean_text(value.mean, sign)
        if math.isnan(value.half_width) or value.half_width < EXACT:
            return mean
        return f"{mean} ± {self.scale * value.half_width:.{self.digits}f}"

    def mean_text(self, value: float | None, sign: str = "") -> str:
        """Writes a number without an interval."""
        if value is None or math.isnan(value):
            return "–"
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def verdict(self, difference: Interval) -> str:
        """Whether an interval of a difference leaves zero out, and for whom."""
        if math.isnan(difference.half_width):
            return "one seed, no interval"
        if abs(difference.mean) <= difference.half_width:
            return "no clear difference"
        return "better" if (difference.mean > 0) == self.higher else "worse"

    def best(self, values: Mapping[str, float]) -> list[str]:
        """The keys with the best value, all of equals; none without a rival."""
        shown = {k: round(v, 9) for k, v in values.items() if math.isfinite(v)}
        if len(shown) < 2:
            return []
        top = (max if self.higher else min)(shown.values())
        return [key for key, value in shown.items() if value == top]


def column(key: str, of: Metric) -> Column:
    """The description of a column, also of a single test set."""
    name, _, place = key.rpartition("@")
    if name in _FIGURES:
        label, hint, higher, scale, digits = _FIGURES[name]
        label, hint = f"{label}, {_PLACES[place]}", f"{hint}, {_PLACES[place]}"
        return Column(label, hint.capitalize(), higher, scale, digits)
    if key.endswith("robustness"):
        label, hint = _HEADLINE[key]
        if not of.higher_is_better:
            label = " / ".join(reversed(label.split(" / ")))
        return Column(label, hint, True, 100.0, 1)
    test = key.removeprefix(DOMAIN).replace("_", " ")
    label, hint = _HEADLINE.get(key, (test, f"Test set {test}."))
    digits = 1 if of.unit == "%" else 2
    return Column(label, hint, of.higher_is_better, of.scale, digits)


def measures(
    evaluation: Mapping[str, Mapping[str, Any]], of: Metric, id_val: float | None
) -> dict[str, float]:
    """The columns of one model; what was not measured, or is no number, is left out.

    Args:
      evaluation: `{test set: {"group", metric, "ece", ...}}`.
      of: the headline metric.
      id_val: the same metric on the validation set.
    """
    members = {g: [e for e in evaluation.values() if e["group"] == g] for g in GROUPS}
    found: dict[str, float | None] = {"id_val": id_val}
    found |= {group: _mean(members[group], of.name) for group in GROUPS}
    name = "relative" if members["ood"] else "corruption"
    shifted = found["ood" if members["ood"] else "corruption"]
    found[f"{name}_robustness"] = of.kept(shifted, found["id"])
    for key, entry in evaluation.items():
        alone = len(members["id"]) == 1  # the ID column says the same
        if entry["group"] == "ood" or (
            entry["group"] == "id" and members["ood"] and not alone
        ):
            found[DOMAIN + key] = entry.get(of.name)
    if of.name == "accuracy":  # in a segmentation every class has its IoU
        found["macro_accuracy@id"] = _mean(members["id"], "macro_accuracy")
    for name in ("ece", "nll"):
        found |= {f"{name}@{group}": _mean(members[group], name) for group in GROUPS}
    return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [entry.get(key) for entry in entries]
    if not values or any(value is None for value in values):
        return None
    return float(np.mean(values))  # pyright: ignore


# ---- Corruptions, mixtures, layers -------------------------------------------------


def corruptions(records: Sequence[Record], name: str) -> pd.DataFrame:
    """The metric, a row a seed, by (corruption, severity); mean over the data sets."""
    rows = [
        (record["seed"], *_corruption(key), entry[name])
        for record in records
        for key, entry in record["evaluation"].items()
        if entry["group"] == "corruption" and entry.get(name) is not None
    ]
    found = pd.DataFrame(rows, columns=["seed", "corruption", "severity", "value"])
    order = list(dict.fromkeys(found["corruption"]))
    wide: Any = found.pivot_table("value", "seed", ["corruption", "severity"])
    return wide if wide.empty else wide[order]


def _corruption(key: str) -> tuple[str, int]:
    _, name, severity = key.rsplit("/", 2)
    return name, int(severity)


def mixtures(records: Sequence[Record], shift: str | None) -> pd.DataFrame | None:
    """`alpha`, `id_val`, `id` and `shift` of the mixed weights, mean over seeds."""
    keys = {"alpha": "alpha", "id_val": "id_val", "id": "id", "shift": str(shift)}
    curves = [record.get("wise_curve") or {} for record in records]
    if any(None in curve.get(key, [None]) for curve in curves for key in keys.values()):
        return None
    each = [
        pd.DataFrame({k: curve[key] for k, key in keys.items()}) for curve in curves
    ]
    mean: Any = pd.concat(each).groupby(level=0).mean()
    return mean


def layers(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each leaf, in forward order, at the selected parameters; over seeds.

    Returns:
      `drift`, the largest L1 norm of a row of the change; `relative`, its share of that
      of the start, NaN where it began at zero; `radius` and `bound`, NaN without.
    """
    each = [pd.DataFrame(record["leaves"]).T.astype(float) for record in records]
    every = pd.concat(each, keys=range(len(each)))
    every["relative"] = every["drift"] / every["norm"].where(every["norm"] > 0)
    mean = every.groupby(level=1).agg(lambda values: values.mean(skipna=False))
    position = {name: i for i, name in enumerate(records[0]["layers"])}
    order = sorted(mean.index, key=lambda name: (position.get(name, math.inf), name))
    return mean.loc[order]


def kernels(found: pd.DataFrame) -> pd.DataFrame:
    """The kernels among the leaves: biases and scales move on a scale of their own."""
    are = [name.rpartition("/")[2] in KERNELS for name in found.index]
    return found.loc[are] if any(are) else found


def collapsed(records: Sequence[Record], below: float) -> list[int]:
    """How many leaves have a smaller radius in each run, at the selected step."""
    radii = [[leaf.get("radius") for leaf in r["leaves"].values()] for r in records]
    return [sum(x is not None and x < below for x in found) for found in radii]


def layer_words(name: str) -> str:
    """A leaf's name as plots and tables show it.

    >>> [layer_words(x) for x in ("backbone/layer1/0/conv2/kernel", "head/bias")]
    ['layer1/0/conv2', 'head/bias']
    """
    name = name.removeprefix("backbone/")
    head, _, last = name.rpartition("/")
    return head if last in KERNELS and head else name
