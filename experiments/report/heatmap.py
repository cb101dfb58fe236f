"""Radii of a run as a heat map: layers in forward order, steps to the right."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm

from experiments.report import drawing, layers
from experiments.report.gather import Run
from experiments.report.layers import Radii
from experiments.report.vector import HEAT

FLOOR = 1e-12  # below this a radius is shown as this


def common_range(runs: Sequence[Run]) -> tuple[float, float]:
    """Smallest and largest radius over all runs, so that their colours compare."""
    found = [r.values for run in runs if (r := layers.radii(run))]
    values = np.concatenate([v.ravel() for v in found])
    values = values[np.isfinite(values)].clip(FLOOR)
    return float(values.min()), float(max(values.max(), 1.01 * values.min()))


def save_radii(radii: Radii, limits: tuple[float, float], path: pathlib.Path) -> str:
    """Draws the radii, log10 as colour.

    Args:
      radii: of one run.
      limits: radii at the two ends of the colours.
      path: of the PNG.

    Returns:
      The SVG.
    """
    count = len(radii.layers)
    size = (8.2, min(max(0.2 * count + 1.0, 2.4), 9.0))
    with drawing.canvas(1, 1, size=size) as (figure, panels):
        axes = panels[0, 0]
        image = axes.imshow(
            radii.values.clip(FLOOR),
            aspect="auto",
            interpolation="nearest",
            norm=LogNorm(*limits),
            cmap="viridis",
        )
        image.set_gid(HEAT)
        axes.grid(False)
        shown = np.arange(0, count, math.ceil(count / 40))
        axes.set_yticks(shown, [layers.short(radii.layers[i]) for i in shown], size=8)
        columns = len(radii.steps)
        ticks = np.unique(np.linspace(0, columns - 1, min(columns, 8)).astype(int))
        axes.set_xticks(ticks, [f"{radii.steps[i]:g}" for i in ticks])
        axes.set_xlabel("Step")
        bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
        bar.set_label("Radius")
        drawing.powers_on(bar.ax.yaxis)
        bar.outline.set_visible(False)  # pyright: ignore
        return drawing.save(figure, path)
