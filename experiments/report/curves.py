"""Lines over the depth, over the steps, and over the severity of corruptions."""

import math
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.report import drawing, layers
from experiments.report.corruptions import severity_intervals
from experiments.report.labels import End, end_labels
from experiments.report.measures import rate
from experiments.report.palette import looks
from experiments.report.summarise import Group, Method

STILL = 1e-6  # relative drift below this is the epsilon of a norm
FEW = 5  # losses that need marks to be seen: of one point there is no line


def save_drift(group: Group, path: pathlib.Path) -> str:
    """Drift in relation to the norm, over the depth; a line per method."""
    methods, colours = list(group.methods.values()), looks(group.methods)
    found = [layers.relative_drifts(method.chosen) for method in methods]
    names = layers.weights(list(dict.fromkeys(n for drifts in found for n in drifts)))
    with drawing.canvas(1, 1, size=(8.2, 4.6)) as (figure, panels):
        axes, ends, still = panels[0, 0], [], []
        for method, drifts in zip(methods, found, strict=True):
            # On a log axis there is no place for leaves that stood still.
            y = [v if (v := drifts.get(n, 0.0)) > STILL else math.nan for n in names]
            look = colours[method.key]
            axes.plot(y, color=look.light, marker=look.marker, ms=5, lw=1.5)
            end = _end(range(len(y)), y, method.label, look.light)
            ends += end
            still += [] if end else [method.label]
        if still:
            words = f"Not drawn, at most {rate(STILL)} in these: {', '.join(still)}."
            note = textwrap.fill(words, 100)
            axes.set_title(note, size=9, weight="normal", loc="left")
        axes.set_yscale("log")
        drawing.powers_on(axes.yaxis)
        ticks = np.arange(0, len(names), math.ceil(len(names) / 32))
        axes.set_xticks(ticks, [layers.short(names[i]) for i in ticks])
        axes.tick_params(axis="x", rotation=90, labelsize=8)
        axes.set_ylabel("Drift / norm of the start")
        figure.draw_without_rendering()  # settles the layout
        end_labels(axes, ends)
        return drawing.save(figure, path)


def save_loss(group: Group, path: pathlib.Path) -> str:
    """Training loss over the steps, and ID validation by epoch, of the chosen runs."""
    colours = looks(group.methods)
    with drawing.canvas(1, 2, size=(9.6, 4.0)) as (figure, panels):
        loss, score = panels[0]
        ends: list[End] = []
        for method in group.methods.values():
            look = colours[method.key]
            for i, run in enumerate(method.chosen.runs.values()):
                style = {"color": look.light, "alpha": 0.35 if i else 1.0, "lw": 1.4}
                x, y = _series(run.record.get("trace"), "loss")
                marker = look.marker if len(y) < FEW else ""
                loss.plot(x, _smooth(y), marker=marker, ms=4, **style)
                x, y = _series(run.record.get("history"), "id_val")
                score.plot(x, 100 * y, marker=look.marker, ms=4, **style)
                if i == 0:
                    ends += _end(x, 100 * y, method.label, look.light)
        _log_if_positive(loss)
        loss.set(xlabel="Step", ylabel="Training loss, smoothed")
        score.set(xlabel="Step", ylabel="ID validation (%)")
        figure.draw_without_rendering()
        end_labels(score, ends)
        return drawing.save(figure, path)


def save_severity(group: Group, path: pathlib.Path) -> str:
    """Metric over the severity, mean over the corruptions; a line per method."""
    colours = looks(group.methods)
    with drawing.canvas(1, 1, size=(8.2, 3.6)) as (figure, panels):
        axes, ends, most = panels[0, 0], [], 0
        for method in group.methods.values():
            means, look = _by_severity(method), colours[method.key]
            x, y = sorted(means), [100 * means[severity] for severity in sorted(means)]
            axes.plot(x, y, color=look.light, marker=look.marker, ms=6, lw=1.5)
            ends += _end(x, y, method.label, look.light)
            most = max(most, *x, 0)
        axes.set(xlabel="Severity (0: clean)", ylabel="Mean over corruptions (%)")
        axes.set_xticks(range(most + 1))
        figure.draw_without_rendering()
        end_labels(axes, ends)
        return drawing.save(figure, path)


def _by_severity(method: Method) -> dict[int, float]:
    """Mean over corruptions and seeds; severity 0 is the clean ID test set."""
    found: dict[int, list[float]] = {}
    for by_severity in severity_intervals(method.chosen).values():
        for severity, value in by_severity.items():
            found.setdefault(severity, []).append(value.mean)
    found.pop(0, None)  # the mean over severities
    if "id" in method.chosen.columns:
        found[0] = [method.chosen.columns["id"].mean]
    return {severity: float(np.mean(values)) for severity, values in found.items()}


def _end(x: Any, y: Any, text: str, colour: str) -> list[End]:
    """The last finite point of a line, if it has any."""
    finite = np.flatnonzero(np.isfinite(y))
    return [End(x[finite[-1]], y[finite[-1]], text, colour)] if len(finite) else []


def _series(
    record: Mapping[str, Any] | None, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values `(n,)` of a trace or history, NaN for what is missing."""
    record = record or {}
    x, y = record.get("step") or [], record.get(key) or []
    return np.array(x[: len(y)], np.float64), np.array(y, np.float64)


def _smooth(y: np.ndarray, width: int = 5) -> np.ndarray:
    """A running mean over `width` values, fewer at the ends."""
    if len(y) < width:
        return y
    weight = np.ones(width)
    count = np.convolve(np.ones(len(y)), weight, "same")
    return np.convolve(y, weight, "same") / count


def _log_if_positive(axes: Axes) -> None:
    values = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines])
    if (values[np.isfinite(values)] > 0).all():
        axes.set_yscale("log")
        drawing.powers_on(axes.yaxis)
