"""What is read off records, by column, and how a column is called and written.

A column holds a figure of the run's selected parameters: `id_val`, which selects; `id`,
`ood` and `corruption`, means of the headline metric over the test sets of a group;
`domain/<name>`, a single test set; calibration; and the parts that `corruption` is the
mean of: `corruption/<name>`, `corruption/<name>/<severity>`, `severity/<number>`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.schema import GROUPS, LEAF
from experiments.statistics import Interval
from experiments.studies import Record
from experiments.tasks.task import Metric

Frame = Any  # a pandas data frame or series: their own types ask for casts everywhere
KERNELS = ("kernel", "weight", "embedding")
WHOLE = 100.0  # the scale of shares
EXACT = 1e-12  # a half-width below this is rounding
# Heading and what it holds; whether more is better, scale and digits where these are
# not those of the headline metric.
_COLUMNS: dict[str, tuple] = {
    "id_val": ("ID val", "In-distribution validation, which selects settings."),
    "id": ("ID test", "In-distribution test set."),
    "ood": ("OOD", "Mean over the out-of-distribution test sets."),
    "corruption": ("Corrupted", "Mean over corruptions and severities of the ID test."),
    "average": ("Average", "Mean over the tasks of a sequence, after the last."),
    "learned": ("Learned", "Mean over the tasks, each right after it was learned."),
    "forgetting": ("Forgotten", "Mean of a task's best minus its last.", False),
    "backward": ("Backward", "Mean change of a task by those after it, in points."),
    "relative_robustness": ("OOD / ID", "Relative robustness, %.", True, 100.0, 1),
    "corruption_robustness": ("Corr. / ID", "Relative robustness, %.", True, 100.0, 1),
    "macro_accuracy": ("Macro", "Mean recall of the classes.", True, 100.0, 1),
    "ece": ("ECE", "Expected calibration error, %.", False, 100.0, 1),
    "nll": ("NLL", "Negative log-likelihood.", False, 1.0, 2),
}
_PLACES = {"id": ", ID", "ood": ", OOD", "corruption": ", corr.", "": ""}

# ---- Columns -----------------------------------------------------------------------


class Column(NamedTuple):
    """How a column is shown: heading, what it holds, direction, scale and digits."""

    label: str
    hint: str
    higher: bool
    scale: float
    digits: int

    def text(self, value: Interval | float | None, sign: str = "") -> str:
        """Writes `98.1 ± 0.4`, or `98.1` of a number, or where one value is all.

        Seeds that agree to the last digit are one value: what does not hang on the seed
        has no interval, and `± 0.0` would read as precision. An interval wider than all
        that a share can be is `± >100`: few seeds tell nothing.
        """
        mean, half = value if isinstance(value, Interval) else (value, math.nan)
        if mean is None or math.isnan(mean):
            return "–"
        text = f"{self.scale * mean:{sign}.{self.digits}f}"
        if math.isnan(half) or half < EXACT:
            return text
        if self.scale == WHOLE and half > 1:
            return f"{text} ± >{WHOLE:g}"
        return f"{text} ± {self.scale * half:.{self.digits}f}"

    def verdict(self, difference: Interval) -> str:
        """Whether an interval of a difference leaves zero out, and for whom."""
        if math.isnan(difference.half_width):
            return "one seed, no interval"
        if abs(difference.mean) <= difference.half_width:
            return "no clear difference"
        return "better" if (difference.mean > 0) == self.higher else "worse"

    def best(
        self, values: Mapping[str, Interval | None], start: Interval | None
    ) -> list[str]:
        """The keys with the best mean, all of equals; none without a rival.

        None either where the start, if it was measured, is as good.
        """
        sign = 1 if self.higher else -1
        means = {k: sign * round(v.mean, 9) for k, v in values.items() if v}
        top = max(means.values(), default=-math.inf)
        beaten = start is None or top > sign * round(start.mean, 9)
        return [k for k in means if means[k] == top and len(means) > 1 and beaten]


def column(key: str, of: Metric) -> Column:
    """The description of a column, also of a single test set."""
    name, _, place = key.partition("@")
    test = key.partition("/")[2].replace("_", " ")
    label, hint, *own = _COLUMNS.get(name, (test, f"Test set {test}."))
    higher = own[0] if own else of.higher_is_better
    if name.endswith("robustness") and not of.higher_is_better:
        label = " / ".join(reversed(label.split(" / ")))
    look: Any = own[1:] or (of.scale, 1 if of.unit == "%" else 2)
    return Column(label + _PLACES[place], hint, higher, *look)


def measures(
    evaluation: Mapping[str, Mapping[str, Any]], of: Metric, id_val: float | None
) -> dict[str, float]:
    """The columns of one model; what was not measured, or is no number, is left out.

    Args:
      evaluation: `{test set: {"group", metric, "ece", ...}}`.
      of: the headline metric.
      id_val: the same metric on the validation set.
    """
    tests: Frame = pd.DataFrame.from_dict({**evaluation}, orient="index")
    group = tests.pop("group") if len(tests) else pd.Series(dtype=str)
    names = dict.fromkeys((of.name, "macro_accuracy", "ece", "nll"))
    tests = tests.reindex(columns=[*names]).astype(float)
    means = tests.groupby(group).agg(lambda values: values.mean(skipna=False))
    means = means.reindex(GROUPS)
    row = {"id_val": id_val, **means[of.name]}
    shift = "ood" if "ood" in group.tolist() else "corruption"
    name = "relative_robustness" if shift == "ood" else "corruption_robustness"
    row[name] = of.kept(row[shift], row["id"])
    # A single ID test set is the column `id`, and corrupted ones have parts.
    several = shift == "ood" and (group == "id").sum() > 1
    alone = tests[of.name][group.isin(["ood", "id"] if several else ["ood"])]
    row |= alone.add_prefix("domain/")
    if of.name == "accuracy":  # in a segmentation every class has its IoU
        row["macro_accuracy@id"] = means["macro_accuracy"]["id"]
    row |= {f"{x}@{place}": means[x][place] for x in ("ece", "nll") for place in GROUPS}
    row |= _parts(tests[of.name][group == "corruption"])
    return {k: float(v) for k, v in row.items() if v is not None and math.isfinite(v)}


def sequence_measures(
    tasks: Mapping[str, Sequence[float | None]] | None, of: Metric
) -> dict[str, float]:
    """The columns of a sequence of tasks; none of a single training.

    Args:
      tasks: in their order, the headline metric on each after each was learned.
      of: the headline metric.
    """
    if not tasks:
        return {}
    sign = 1 if of.higher_is_better else -1
    after: Frame = sign * pd.DataFrame(tasks, dtype=float)
    learned = pd.Series(np.diag(after), after.columns)
    last = after.iloc[-1]
    return {
        "learned": sign * float(learned.mean()),
        "forgetting": float((after.max() - last).mean()),
        "backward": sign * float((last - learned)[:-1].mean()),
    }


def _parts(values: Frame) -> dict[str, float]:
    """Means by corruption and severity, of test sets `<data>/<corruption>/<number>`."""
    each: dict[str, list[float]] = {}
    for test, value in values.items():
        if known := re.fullmatch(r".+/([^/]+)/(\d+)", test):
            name, severity = known.groups()
            for part in (f"corruption/{name}", f"severity/{severity}"):
                each.setdefault(part, []).append(value)
            each.setdefault(f"corruption/{name}/{severity}", []).append(value)
    return {key: sum(part) / len(part) for key, part in each.items()}


# ---- Layers ------------------------------------------------------------------------


def layers(records: Sequence[Record]) -> Frame:
    """A row for each leaf, in forward order, at the selected parameters; over seeds.

    Returns:
      `drift`, the largest L1 norm of a row of the change; `relative`, its share of that
      of the start, NaN where it began at zero; `radius` and `bound`, NaN without.
    """
    each = [pd.DataFrame(r["leaves"], index=[*LEAF]).T.astype(float) for r in records]
    every: Frame = pd.concat(each)
    every["relative"] = every["drift"] / every["norm"].where(every["norm"] > 0)
    mean = every.groupby(level=0).agg(lambda values: values.mean(skipna=False))
    forward = [name for name in records[0]["layers"] if name in mean.index]
    return mean.loc[[*dict.fromkeys((*forward, *mean.index))]]


def kernels(leaves: Frame) -> Frame:
    """The kernels among the leaves: biases and scales move on a scale of their own."""
    are = [name.rpartition("/")[2] in KERNELS for name in leaves.index]
    return leaves.loc[are] if any(are) else leaves


def collapsed(records: Sequence[Record], below: float) -> list[int]:
    """How many leaves have a smaller radius in each run, at the selected step."""
    return [int((layers([record])["radius"] < below).sum()) for record in records]


def layer_words(name: str) -> str:
    """A leaf's name as plots and tables show it.

    >>> [layer_words(x) for x in ("backbone/layer1/0/conv2/kernel", "head/bias")]
    ['layer1/0/conv2', 'head/bias']
    """
    name = name.removeprefix("backbone/")
    head, _, last = name.rpartition("/")
    return head if last in KERNELS and head else name
