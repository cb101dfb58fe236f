"""The comparison of methods as bars."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks import machine
from benchmarks.contenders import METHODS, PLAIN
from benchmarks.models import MODELS

# Of Okabe and Ito's palette, told apart with any colour vision.
COLOURS = {PLAIN: "#999999", "ftp": "#009E73", "tpgm": "#D55E00"}
OTHERS = "#56B4E9"
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


def save(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws time by model, with intervals, and the memory that the methods keep."""
    models = results["models"]
    some_model = next(iter(models.values()))
    names = list(some_model["methods"])
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(models) + 1,
            figsize=(3.2 * (len(models) + 1), 1.6 + 0.36 * len(names)),
            layout="constrained",
            sharey=True,
        )
        for axes, (model, result) in zip(panels, models.items(), strict=False):
            rows = result["methods"]
            times = [rows[name]["time"] for name in names]
            middle = np.array([t["median"] for t in times])
            errors = [
                middle - [t["low"] for t in times],
                [t["high"] for t in times] - middle,
            ]
            ends = [t["high"] for t in times]
            _bars(axes, names, middle, ends, "{:.2f}", xerr=errors)
            axes.axvline(1.0, color=INK, lw=0.8, ls=":")
            axes.set(title=MODELS[model].label, xlabel="Time per step (AdamW = 1)")
        copies = [some_model["methods"][name]["state"] for name in names]
        _bars(panels[-1], names, np.array(copies), copies, "{:.1f}")
        panels[-1].set(title="State", xlabel="Copies of the parameters")
        panels[0].set_yticks(range(len(names)), [METHODS[n].label for n in names])
        panels[0].invert_yaxis()
        figure.suptitle(
            f"Batch {some_model['batch_size']}. Lines: 95 % interval of the median."
            f" {machine.in_words(results['machine'])}.",
            size=9,
            color=INK,
        )
        figure.savefig(path)
        plt.close(figure)


def _bars(
    axes: Axes,
    names: list[str],
    values: np.ndarray,
    ends: list[float],
    form: str,
    **options: Any,
) -> None:
    """Bars with their values beyond `ends`, where the lines of the intervals stop."""
    colours = [COLOURS.get(name, OTHERS) for name in names]
    style = {"color": colours, "height": 0.7, "ecolor": INK, **options}
    axes.barh(range(len(names)), values, **style)
    longest = max(ends)
    for y, (value, end) in enumerate(zip(values, ends, strict=True)):
        label = form.format(value)
        axes.text(end + 0.02 * longest, y, label, va="center", size=9, color=INK)
    axes.set_xlim(0, 1.2 * longest)
    axes.tick_params(axis="y", length=0)
