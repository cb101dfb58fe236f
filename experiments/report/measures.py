"""What is read off one run, by column, and how a column is called and written."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.report.gather import Run, Setting
from experiments.statistics import Interval

DOMAIN = "domain/"  # prefix of the columns of single test sets

Values = dict[str, float]  # column -> share in [0, 1]


class Column(NamedTuple):
    """How a column is shown.

    Attributes:
      label: its heading.
      hint: what it holds, in a sentence.
      high: whether more is better, `None` where that cannot be said.
    """

    label: str
    hint: str
    high: bool | None = True


COLUMNS = {
    "id_val": Column("ID val", "In-distribution validation, which selects settings."),
    "id": Column("ID test", "In-distribution test set."),
    "ood": Column("OOD", "Mean over the out-of-distribution test sets."),
    "corruption": Column(
        "Corrupted", "Mean over all corruptions and severities of the ID test set."
    ),
    "relative_robustness": Column("OOD / ID", "Relative robustness."),
    "corruption_robustness": Column(
        "Corr. / ID", "Relative robustness, of data whose only shift is corruption."
    ),
    "macro_accuracy": Column(
        "Macro, ID", "Macro accuracy, the mean recall of the classes, on the ID test."
    ),
    "ece": Column("ECE, ID", "Expected calibration error on the ID test set.", False),
    "ece_ood": Column(
        "ECE, OOD", "Expected calibration error, mean over the OOD test sets.", False
    ),
    "ece_corruption": Column(
        "ECE, corr.", "Expected calibration error, mean over all corruptions.", False
    ),
}
EXACT = 1e-12  # a half-width below this is rounding
METRICS = {"accuracy": "accuracy", "mean_iou": "mean IoU"}
SYMBOLS = {"kappa": "κ", "alpha": "α", "lambda": "λ"}


def column(key: str) -> Column:
    """The description of a column, also of a single test set."""
    if key in COLUMNS:
        return COLUMNS[key]
    name = key.removeprefix(DOMAIN).replace("_", " ")
    return Column(name, f"Test set {name}.")


def measures(
    evaluation: Mapping[str, Mapping[str, Any]],
    metric: str,
    id_val: float | None = None,
) -> Values:
    """The columns of one model; what was not measured, or is no number, is left out.

    Args:
      evaluation: `{test set: {"group", metric, "ece", ...}}`.
      metric: key of the headline metric in the evaluation.
      id_val: the same metric on the validation set.
    """
    members: dict[str, list[Mapping[str, Any]]] = {}
    for entry in evaluation.values():
        members.setdefault(entry["group"], []).append(entry)

    found: dict[str, float | None] = {"id_val": id_val}
    for group in ("id", "ood", "corruption"):
        found[group] = _mean(members.get(group, ()), metric)
    id_value, ood, corrupted = found["id"], found["ood"], found["corruption"]
    if id_value and ood is not None:
        found["relative_robustness"] = ood / id_value
    elif id_value and corrupted is not None:
        found["corruption_robustness"] = corrupted / id_value
    for key, entry in evaluation.items():
        if entry["group"] == "ood" or (entry["group"] == "id" and "ood" in members):
            found[DOMAIN + key] = entry.get(metric)
    if metric == "accuracy":  # in a segmentation every class has its IoU
        found["macro_accuracy"] = _mean(members.get("id", ()), "macro_accuracy")
    found["ece"] = _mean(members.get("id", ()), "ece")
    found["ece_ood"] = _mean(members.get("ood", ()), "ece")
    found["ece_corruption"] = _mean(members.get("corruption", ()), "ece")
    if len(members.get("id", ())) == 1:  # the ID column says the same
        for key in [k for k, e in evaluation.items() if e["group"] == "id"]:
            found.pop(DOMAIN + key, None)
    return {
        key: float(value)
        for key, value in found.items()
        if value is not None and math.isfinite(value)
    }


def run_measures(run: Run) -> Values:
    """The columns of a run's selected parameters."""
    record = run.record
    return measures(record["evaluation"], record["metric"], record.get("id_val"))


def start_measures(run: Run) -> Values:
    """The columns of what the run started from; empty where that was not measured."""
    start = run.record.get("start_evaluation") or {}
    curve = run.record.get("wise_curve") or {}
    if not start and 0.0 in curve.get("alpha", ()):  # none of the fine-tuned weights
        i = curve["alpha"].index(0.0)
        found = {key: curve.get(key) for key in ("id_val", "id", "ood", "corruption")}
        return {k: v[i] for k, v in found.items() if v and v[i] is not None}
    evaluation = start.get("evaluation", start)
    shown = {k: v for k, v in evaluation.items() if "group" in v}
    return measures(shown, run.record["metric"], start.get("id_val"))


def corruption_measures(run: Run) -> dict[str, dict[int, float]]:
    """`{corruption: {severity: metric}}`, mean over the data sets corrupted."""
    found: dict[str, dict[int, list[float]]] = {}
    for key, entry in run.record["evaluation"].items():
        value = entry.get(run.record["metric"])
        if entry["group"] == "corruption" and value is not None:
            _, name, severity = key.rsplit("/", 2)
            found.setdefault(name, {}).setdefault(int(severity), []).append(value)
    return {
        name: {severity: float(np.mean(v)) for severity, v in sorted(by.items())}
        for name, by in found.items()
    }


def _mean(entries: Any, key: str) -> float | None:
    values = [entry.get(key) for entry in entries]
    if not values or any(value is None for value in values):
        return None
    return float(np.mean(values))


def percent(value: Interval | None, sign: str = "") -> str:
    """Writes a share in per cent: `98.1 ± 0.4`, or `98.1` where one value is all.

    Seeds that agree to the last digit are one value: what does not hang on the seed has
    no interval, and `± 0.0` would read as precision.
    """
    if value is None:
        return "–"
    mean = f"{100 * value.mean:{sign}.1f}"
    if math.isnan(value.half_width) or value.half_width < EXACT:
        return mean
    return f"{mean} ± {100 * value.half_width:.1f}"


def in_words(setting: Setting) -> str:
    """Writes a setting: `1e-3, κ 0.5`."""
    parts = []
    if setting.learning_rate is not None:
        parts.append(rate(setting.learning_rate))
    if strength := strength_in_words(setting):
        parts.append(strength)
    return ", ".join(parts)


def strength_in_words(setting: Setting) -> str:
    """Writes the strength alone: `κ 0.5`, or nothing."""
    if setting.strength is None:
        return ""
    name = setting.strength_name or "strength"
    return f"{SYMBOLS.get(name, name)} {setting.strength:g}"


def rate(value: float) -> str:
    """Writes a learning rate: `3e-4`, `0.01` as `1e-2`."""
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
