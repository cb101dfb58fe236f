"""The growth of cost along parameters, leaves and devices, in three panels."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from benchmarks import plot_style
from benchmarks.modes import PLAIN
from benchmarks.scaling_report import QUANTITIES, series
from benchmarks.scaling_series import FTP

COLOURS = {PLAIN: plot_style.GREY, FTP: plot_style.GREEN}
NAMES = {PLAIN: "AdamW", FTP: "FTP"}
LINES = ("-", "--")  # of the first and the second quantity of a panel
MARKERS = ("o", "s")
TITLES = {"params": "Parameters", "leaves": "Leaves", "devices": "Simulated devices"}


def save(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws each quantity as a multiple of AdamW's first point, with its slope."""
    along = results["along"]
    with mpl.rc_context(plot_style.STYLE | {"axes.grid.axis": "both"}):
        figure, panels = plt.subplots(
            1,
            len(along),
            figsize=(4.0 * len(along), 4.6),
            layout="constrained",
            squeeze=False,
        )
        for axes, axis in zip(panels[0], along, strict=True):
            _draw(axes, axis, results)
        panels[0, 0].set_ylabel("Multiple of AdamW's first point")
        note = f"FTP: {results['mode']}. In brackets: slopes; dotted: linear growth."
        plot_style.save(figure, note, results["machine"], path)


def _draw(axes: Axes, axis: str, results: Mapping[str, Any]) -> None:
    points = results["along"][axis]
    slopes = {
        (s["axis"], name, s["key"]): s[name]["median"]
        for s in results["slopes"]
        for name in NAMES
    }
    shown = [quantity for quantity in QUANTITIES if quantity.axis == axis]
    for quantity, line, marker in zip(shown, LINES, MARKERS, strict=True):
        unit = series(points, PLAIN, quantity.key).y[0]
        for name, colour in COLOURS.items():
            x, y = series(points, name, quantity.key)
            slope = slopes[axis, name, quantity.key]
            label = f"{NAMES[name]}: {quantity.label} ({slope:.2f})"
            style = {"color": colour, "ls": line, "marker": marker, "ms": 4}
            axes.plot(x, np.array(y) / unit, label=label, **style)
    ends = np.array([points[0]["x"], points[-1]["x"]], float)
    power = -1.0 if axis == "devices" else 1.0
    dotted = {"color": plot_style.INK, "ls": ":", "lw": 1}
    axes.plot(ends, (ends / ends[0]) ** power, **dotted)
    axes.set(xscale="log", xlabel=TITLES[axis])
    axes.set_yscale("log", base=2 if axis == "devices" else 10)
    ticks = [point["x"] for point in points]
    millions = lambda x: f"{x:.0f} M" if x > 9.5 else f"{x:.2g} M"
    form = lambda x: millions(x / 1e6) if axis == "params" else f"{x}"
    axes.set_xticks(ticks, [form(x) for x in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    below = {"loc": "upper left", "bbox_to_anchor": (0, -0.16)}
    axes.legend(fontsize=8, frameon=False, **below)
