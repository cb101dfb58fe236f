"""What the learning rate does: ID and OOD of every setting, method by method."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from experiments.report import drawing
from experiments.report.labels import End, end_labels
from experiments.report.measures import SYMBOLS, column
from experiments.report.palette import GRID, looks
from experiments.report.summarise import BASELINE, Group, Method, Trial

WIDE = 4  # panels beside each other


def save_learning_rates(group: Group, path: pathlib.Path) -> str:
    """Draws ID over OOD (or corruptions) against the rate; a line for each strength.

    Args:
      group: some settings have a learning rate.
      path: of the PNG.

    Returns:
      The SVG.
    """
    methods = [m for m in group.methods.values() if _lines(m)]
    keys = [key for key in ("id", group.shift) if key]
    wide = min(WIDE, len(methods))
    rows = math.ceil(len(methods) / wide) * len(keys)
    size = (max(2.35 * wide + 0.8, 4.8), 1.7 * rows + 0.4)
    with drawing.canvas(rows, wide, size=size, sharex=True) as (figure, panels):
        ends: list[tuple[Axes, list[End]]] = []
        for i, method in enumerate(methods):
            for k, key in enumerate(keys):
                axes = panels[i // wide * len(keys) + k, i % wide]
                if method.key != BASELINE and BASELINE in group.methods:
                    _background(axes, group.methods[BASELINE], key)
                colour = looks(group.methods)[method.key].light
                ends.append((axes, _rate_lines(axes, method, key, colour)))
                if k == 0:
                    axes.set_title(_title(method), color=colour)
                if i % wide == 0:
                    axes.set_ylabel(f"{column(key).label} (%)")
        for k in range(len(keys)):
            _same_heights(panels[k :: len(keys)].ravel())
        for axes in panels.ravel():
            drawing.rates_on(axes)
            axes.set_visible(axes.has_data())
            axes.tick_params(labelbottom=True, labelsize=8)
        grey = " Grey: fine-tuning." if BASELINE in group.methods else ""
        figure.supxlabel(f"Learning rate. Ring: the chosen setting.{grey}", size=9.5)
        figure.draw_without_rendering()  # settles the layout
        for axes, found in ends:
            end_labels(axes, found, size=8)
        return drawing.save(figure, path)


def rates_of(method: Method) -> set[float]:
    """The learning rates that a method ran at."""
    rates = (trial.setting.learning_rate for trial in method.trials)
    return {rate for rate in rates if rate is not None}


def _title(method: Method) -> str:
    name = method.trials[0].setting.strength_name
    return f"{method.label} ({SYMBOLS.get(name, name)})" if name else method.label


def _lines(method: Method) -> dict[float | None, list[Trial]]:
    """A method's settings that have a rate, by strength, weakest first."""
    found: dict[float | None, list[Trial]] = {}
    rated = [t for t in method.trials if t.setting.learning_rate is not None]
    for trial in sorted(rated, key=lambda t: t.setting.order[::-1]):
        found.setdefault(trial.setting.strength, []).append(trial)
    return found


def _means(trials: Sequence[Trial], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Rates, and means in per cent, of the settings that have the column."""
    shown = [trial for trial in trials if key in trial.columns]
    x = np.array([trial.setting.learning_rate for trial in shown], float)
    return x, 100 * np.array([trial.columns[key].mean for trial in shown])


def _background(axes: Axes, method: Method, key: str) -> None:
    for trials in _lines(method).values():
        axes.plot(*_means(trials, key), color=GRID.light, lw=2.5, zorder=1)


def _rate_lines(axes: Axes, method: Method, key: str, colour: str) -> list[End]:
    """One line per strength, a darker one for more; returns their ends."""
    lines, ends = _lines(method), []
    shades = np.linspace(0.4, 1.0, len(lines)) if len(lines) > 1 else [1.0]
    for (strength, trials), shade in zip(lines.items(), shades, strict=True):
        x, mean = _means(trials, key)
        if not len(x):
            continue
        axes.plot(x, mean, color=colour, alpha=shade, lw=1.7, marker="o", ms=4)
        shown = [trial for trial in trials if key in trial.columns]
        half = 100 * np.nan_to_num([t.columns[key].half_width for t in shown])
        axes.errorbar(x, mean, half, color=colour, alpha=0.5 * shade, lw=1, fmt="none")
        if strength is not None:
            ends.append(End(x[-1], mean[-1], f"{strength:g}", colour))
        if method.chosen in shown:
            i = shown.index(method.chosen)
            axes.plot(
                x[i],
                mean[i],
                "o",
                ms=11,
                mfc="none",
                mec=colour,
                mew=1.6,
                clip_on=False,
            )
    return ends


def _same_heights(panels: Sequence[Axes]) -> None:
    shown = [axes for axes in panels if axes.has_data()]
    limits = np.array([axes.get_ylim() for axes in shown])
    for axes in shown:
        axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())
