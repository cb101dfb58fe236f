"""What the numbers say, in sentences, whoever they favour."""

import math

import numpy as np

from experiments.report import layers
from experiments.report.measures import column, in_words, percent, rate
from experiments.report.summarise import BASELINE, REFERENCE, Group
from experiments.statistics import Interval

ONE_SEED = "one seed, no interval"
STUCK = 1e-6  # a radius below this keeps its layer where it began


def conclusion(group: Group) -> list[str]:
    """Sentences on one group, drawn from its numbers alone."""
    lines = [_highest(group, key) for key in _headline(group)]
    lines += [_comparison(group, key) for key in _headline(group)]
    lines += _spread(group) + _wise(group) + _radii(group) + _drift(group)
    diverged = [
        f"{method.label} in {count} of {sum(len(t.runs) for t in method.trials)} runs"
        for method in group.methods.values()
        if (count := sum(trial.diverged for trial in method.trials))
    ]
    if diverged:
        lines.append(f"Did not stay finite: {'; '.join(diverged)}.")
    return [line for line in lines if line]


def verdict(difference: Interval) -> str:
    """Whether an interval of a difference leaves zero out, and on which side."""
    if math.isnan(difference.half_width):
        return ONE_SEED
    if abs(difference.mean) <= difference.half_width:
        return "no clear difference"
    return "higher" if difference.mean > 0 else "lower"


def _headline(group: Group) -> list[str]:
    return [key for key in ("id", "ood", "corruption") if key in group.columns]


def _highest(group: Group, key: str) -> str:
    """The best method of a column at the chosen settings, and where the model began."""
    shown = [m for m in group.methods.values() if key in m.chosen.columns]
    best = max(shown, key=lambda m: m.chosen.columns[key].mean)
    start = f" (start {percent(group.start[key])})" if key in group.start else ""
    setting, value = in_words(best.chosen.setting), best.chosen.columns[key]
    return (
        f"Highest {column(key).label} of the chosen settings: {best.label}"
        f"{' at ' * bool(setting)}{setting}, {percent(value)}{start}."
    )


def _comparison(group: Group, key: str) -> str:
    """The reference against all others in one column, by verdict."""
    by_verdict: dict[str, list[str]] = {}
    for found in group.differences:
        if value := found.columns.get(key):
            words = f"{group.methods[found.other].label} ({percent(value, '+')})"
            by_verdict.setdefault(verdict(value), []).append(words)
    parts = [
        f"{_RELATION[name]} {', '.join(by_verdict[name])}"
        for name in _RELATION
        if name in by_verdict
    ]
    if not parts:
        return ""
    label = group.methods[REFERENCE].label
    return f"{column(key).label}, paired by seed: {label} is {'; '.join(parts)}."


_RELATION = {
    "higher": "higher than",
    "lower": "lower than",
    "no clear difference": "not clearly different from",
    ONE_SEED: "apart, on one seed and so without an interval, from",
}


def _spread(group: Group) -> list[str]:
    """How much hangs on the setting: best and worst of each method's sweep."""
    key, parts = group.shift, []
    for method in group.methods.values():
        trials = [t for t in method.trials if key in t.columns]
        if key is None or len(trials) < 2:
            continue
        ranked = sorted(trials, key=lambda t: t.columns[key].mean)
        parts.append(
            f"{method.label} {100 * ranked[-1].columns[key].mean:.1f} to"
            f" {100 * ranked[0].columns[key].mean:.1f}"
            f" (at {in_words(ranked[0].setting)})"
        )
    if not parts:
        return []
    label = column(str(key)).label
    return [f"{label} over the whole sweep, best to worst: {'; '.join(parts)}."]


def wise_curve(group: Group) -> dict[str, np.ndarray] | None:
    """Mean over seeds of the WiSE curve of plain fine-tuning, at its chosen setting.

    Returns:
      `alpha`, `id_val`, `id` and `shift`, each `(alphas,)`; `None` without a curve.
    """
    method = group.methods.get(BASELINE)
    if method is None or group.shift is None:
        return None
    keys = {"alpha": "alpha", "id_val": "id_val", "id": "id", "shift": group.shift}
    curves = []
    for run in method.chosen.runs.values():
        curve = run.record.get("wise_curve") or {}
        if any(None in curve.get(key, [None]) for key in keys.values()):
            return None
        curves.append(curve)
    return {
        name: np.mean([curve[key] for curve in curves], axis=0)
        for name, key in keys.items()
    }


def _wise(group: Group) -> list[str]:
    method = group.methods.get(BASELINE)
    curve = wise_curve(group)
    if curve is None or method is None:
        return []
    best, by_val = int(curve["shift"].argmax()), int(curve["id_val"].argmax())
    label = column(str(group.shift)).label
    return [
        f"Mixing the weights of {method.label} with those of the start (WiSE-FT): the"
        f" highest {label}, {100 * curve['shift'][best]:.1f} at ID"
        f" {100 * curve['id'][best]:.1f}, is at α {curve['alpha'][best]:g}; ID"
        f" validation is highest at α {curve['alpha'][by_val]:g}, where {label} is"
        f" {100 * curve['shift'][by_val]:.1f}."
    ]


def _radii(group: Group) -> list[str]:
    lines = []
    for method in group.methods.values():
        found = layers.final_radii(method.chosen)
        if not found:
            continue
        values = np.array(list(found.values()))
        counts = layers.collapsed(method.chosen, STUCK)
        few, many = min(counts), max(counts)
        stuck = f"{few} to {many}" if few < many else many or "none"
        by_seed = ", by seed" if few < many else ""
        lines.append(
            f"{possessive(method.label)} radii, at the selected step: median"
            f" {np.median(values):.2g}, largest {values.max():.2g};"
            f" {stuck} of {len(values)} below {rate(STUCK)}{by_seed}, where a layer"
            " stays as it began."
        )
    return lines


def possessive(name: str) -> str:
    """`FTP's`, but `FTP, active rows'`."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _drift(group: Group) -> list[str]:
    pair = [group.methods.get(key) for key in (BASELINE, REFERENCE)]
    parts = []
    for method in pair:
        if method is None:
            continue
        found = layers.relative_drifts(method.chosen)
        kernels = {name: found[name] for name in layers.weights(list(found))}
        if kernels:
            top = max(kernels, key=lambda name: kernels[name])
            parts.append(
                f"{method.label} a median of {np.median(list(kernels.values())):.2g},"
                f" most in {layers.short(top)} ({kernels[top]:.2g})"
            )
    if not parts:
        return []
    return [f"Drift of a kernel, relative to its norm: {'; '.join(parts)}."]
