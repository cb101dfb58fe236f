"""How does every plot look?"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import machine

# Of Okabe and Ito's palette, told apart with any colour vision.
GREY, GREEN, RED, BLUE = "#999999", "#009E73", "#D55E00", "#56B4E9"
INK = "#444444"

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "savefig.dpi": 150,
}


def save(
    figure: Figure, note: str, measured_on: Mapping[str, Any], path: pathlib.Path
) -> None:
    """Writes the figure under a line with a note and the machine."""
    line = f"{note} {machine.in_words(measured_on)}."
    figure.suptitle(line, size=9, color=INK)
    figure.savefig(path)
    plt.close(figure)


def bars(
    axes: Axes,
    colours: Sequence[str],
    values: Sequence[float],
    ends: Sequence[float],
    labels: Sequence[str],
    **style: Any,
) -> None:
    """Bars with labels beyond `ends`, where the lines of the intervals stop."""
    drawn = {"color": list(colours), "height": 0.7, "ecolor": INK, **style}
    axes.barh(range(len(values)), values, **drawn)
    longest = max(ends)
    for y, (label, end) in enumerate(zip(labels, ends, strict=True)):
        axes.text(end + 0.02 * longest, y, label, va="center", size=9, color=INK)
    axes.set_xlim(0, 1.2 * longest)
    axes.tick_params(axis="y", length=0)


def ratio_bars(
    axes: Axes, colours: Sequence[str], ratios: Sequence[Mapping[str, float]]
) -> None:
    """Bars of medians with the lines of their intervals, and a mark at 1."""
    middle = np.array([r["median"] for r in ratios])
    ends = [r["high"] for r in ratios]
    errors = [middle - [r["low"] for r in ratios], ends - middle]
    labels = [f"{m:.2f}" for m in middle]
    bars(axes, colours, list(middle), ends, labels, xerr=errors)
    axes.axvline(1.0, color=INK, lw=0.8, ls=":")


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Names the bars, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
