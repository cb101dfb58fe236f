"""The style that all plots share, labels that keep clear of each other, and saving."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.report.measures import rate
from experiments.report.palette import GRID, INK, PAPER

STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": INK.light,
    "axes.labelcolor": INK.light,
    "axes.titlecolor": INK.light,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER.light,
    "axes.facecolor": PAPER.light,
    "grid.color": GRID.light,
    "legend.frameon": False,
    "legend.labelcolor": INK.light,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 120,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.color": INK.light,
    "xtick.color": INK.light,
    "ytick.color": INK.light,
}


@contextlib.contextmanager
def canvas(*grid: int, size: tuple[float, float], **options: Any) -> Iterator[Any]:
    """A figure and its array of axes, `grid` being rows and columns; closed at last."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            *grid, figsize=size, layout="constrained", squeeze=False, **options
        )
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def save(figure: Figure, path: pathlib.Path) -> str:
    """Writes a figure as `path`, a PNG, and returns it as SVG."""
    figure.savefig(path)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def rates_on(axes: Axes) -> None:
    """Turns the x axis into learning rates on a log scale."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: rate(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def powers_on(axis: Axis) -> None:
    """Writes the ticks of a log axis as `1e-3`, and as `0.05` near one."""
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plain = lambda x, _: f"{x:g}" if 0.01 <= x < 1000 else rate(x)
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())
