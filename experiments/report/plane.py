"""The plane of ID against OOD: every run, the chosen settings, and the WiSE curve."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.report import drawing
from experiments.report.conclusion import wise_curve
from experiments.report.gather import Run
from experiments.report.labels import place_labels
from experiments.report.measures import column, in_words, percent, run_measures
from experiments.report.palette import INK, looks
from experiments.report.summarise import Group
from experiments.report.vector import CHOSEN

Tips = dict[str, str]  # id of an element of the plot -> what it shows
LEAST = 8.0  # points that the chosen settings are taken to span, at least
ROOM = 1.2  # how far the view goes beyond the chosen settings, in their own spans


def save_plane(group: Group, path: pathlib.Path) -> tuple[str, Tips]:
    """Draws the plane.

    Args:
      group: has a `shift`.
      path: of the PNG.

    Returns:
      The SVG, and what its marks say in full, by their ids.
    """
    shift = str(group.shift)
    with drawing.canvas(1, 1, size=(8.2, 5.4)) as (figure, panels):
        axes: Axes = panels[0, 0]
        _set_view(axes, group, shift)
        outside, tips = _runs(axes, group, shift)
        _wise(axes, group, shift)
        labels = _start(axes, group, shift)
        more, chosen_tips = _chosen(axes, group, shift)
        labels += more
        axes.set_xlabel(f"{column('id').label} (%)")
        axes.set_ylabel(f"{column(shift).label} (%)")
        intervals = ", with 95 % intervals" if _have_intervals(group, shift) else ""
        note = f"Large: chosen settings{intervals}. Faint: every run."
        if outside:
            note += f" At the edge: {outside} runs that lie further out."
        axes.set_title(note, size=9, weight="normal", loc="left")
        points, texts, colours = zip(*labels, strict=True)
        place_labels(axes, points, texts, colors=colours, size=9.5, weight="bold")
        return drawing.save(figure, path), tips | chosen_tips


def _have_intervals(group: Group, shift: str) -> bool:
    """One seed has none."""
    halves = [
        method.chosen.columns[key].half_width
        for method in group.methods.values()
        for key in ("id", shift)
        if key in method.chosen.columns
    ]
    return bool(np.isfinite(halves).any())


def _set_view(axes: Axes, group: Group, shift: str) -> None:
    """Limits around what matters; one wrecked run must not squeeze the rest."""
    chosen = _points([m.chosen.columns for m in group.methods.values()], shift)
    if _has_start(group, shift):
        chosen = np.vstack([chosen, _points([group.start], shift)])
    curve = wise_curve(group)
    if curve is not None:
        mixtures = 100 * np.stack([curve["id"], curve["shift"]], 1)
        chosen = np.vstack([chosen, mixtures[curve["alpha"] >= 0.1]])
    span = np.maximum(np.ptp(chosen, axis=0), LEAST)
    low, high = chosen.min(0) - ROOM * span, chosen.max(0) + ROOM * span
    runs = _points([run_measures(run) for run in group.runs], shift)
    shown = np.vstack([chosen, runs[((runs >= low) & (runs <= high)).all(1)]])
    margin = np.maximum(0.08 * np.ptp(shown, axis=0), 0.5)
    low, high = shown.min(0) - margin, shown.max(0) + margin
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])


def _points(columns: Sequence[Any], shift: str) -> np.ndarray:
    """ID and shift in per cent, `(n, 2)`, of those that have both."""
    number = lambda value: getattr(value, "mean", value)
    found = [
        (number(values["id"]), number(values[shift]))
        for values in columns
        if "id" in values and shift in values
    ]
    return 100 * np.array(found, dtype=np.float64).reshape(-1, 2)


def _has_start(group: Group, shift: str) -> bool:
    """A new head knows nothing: where it starts is no point of comparison."""
    return shift in group.start and "new" not in group.shared.start


def _runs(axes: Axes, group: Group, shift: str) -> tuple[int, Tips]:
    """A faint mark for every run; those outside of the view stick to its edge."""
    tips: Tips = {}
    outside = 0
    colours = looks(group.methods)
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    for run in group.runs:
        point = _points([run_measures(run)], shift)
        if not len(point):
            continue
        look, shown = colours[run.method], np.clip(point[0], low, high)
        far = bool((shown != point[0]).any())
        outside += far
        (mark,) = axes.plot(
            *shown,
            look.marker,
            color=look.light,
            ms=6,
            alpha=0.38,
            mew=0,
            clip_on=False,
            fillstyle="left" if far else "full",
        )
        key = f"run-{len(tips)}"
        mark.set_gid(key)
        tips[key] = _tip(group, run, *point[0])
    return outside, tips


def _tip(group: Group, run: Run, id_value: float, shift_value: float) -> str:
    method = group.methods[run.method]
    setting = in_words(run.setting)
    return (
        f"{method.label}{', ' * bool(setting)}{setting}, seed {run.seed}: ID"
        f" {id_value:.1f}, {column(str(group.shift)).label} {shift_value:.1f}"
    )


def _wise(axes: Axes, group: Group, shift: str) -> None:
    curve = wise_curve(group)
    if curve is None:
        return
    x, y = 100 * curve["id"], 100 * curve["shift"]
    colour = looks(["wise-ft"])["wise-ft"].light
    axes.plot(x, y, "-", color=colour, lw=1.6, alpha=0.9, zorder=1.5)
    axes.plot(x, y, ".", color=colour, ms=5, zorder=1.6)
    for alpha, px, py in zip(curve["alpha"], x, y, strict=True):
        if not (round(10 * alpha) % 2 or alpha in (0.0, 1.0)):
            axes.annotate(
                f"α {alpha:g}",
                (px, py),
                xytext=(4, 4),
                textcoords="offset points",
                color=colour,
                size=8,
                annotation_clip=True,
            )


def _start(axes: Axes, group: Group, shift: str) -> list[tuple[Any, str, str]]:
    if not _has_start(group, shift):
        return []
    point = _points([group.start], shift)[0]
    axes.plot(*point, "*", color=INK.light, ms=15, zorder=3)
    return [(point, f"Start: {group.shared.start}", INK.light)]


def _chosen(
    axes: Axes, group: Group, shift: str
) -> tuple[list[tuple[Any, str, str]], Tips]:
    """A large mark with its intervals for each method's chosen setting."""
    labels, tips, colours = [], {}, looks(group.methods)
    for method in group.methods.values():
        columns, look = method.chosen.columns, colours[method.key]
        point = _points([columns], shift)
        if not len(point):
            continue
        halves = 100 * np.nan_to_num([columns[key].half_width for key in ("id", shift)])
        axes.errorbar(
            *point[0],
            xerr=halves[0],
            yerr=halves[1],
            color=look.light,
            lw=1.3,
            alpha=0.5,
            fmt="none",
        )
        (mark,) = axes.plot(
            *point[0],
            look.marker,
            color=look.light,
            ms=10,
            mec="white",
            mew=1.0,
            zorder=4,
        )
        key = f"{CHOSEN}{method.key}"
        mark.set_gid(key)
        tips[key] = (
            f"{method.label}, chosen: {in_words(method.chosen.setting)}. ID"
            f" {percent(columns['id'])}, {column(shift).label}"
            f" {percent(columns[shift])}"
        )
        labels.append((point[0], method.label, look.light))
    return labels, tips
