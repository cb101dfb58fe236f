"""The comparison of methods as bars."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks import plot_style
from benchmarks.contenders import METHODS, PLAIN
from benchmarks.models import MODELS

COLOURS = {PLAIN: plot_style.GREY, "ftp": plot_style.GREEN, "tpgm": plot_style.RED}


def save(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws time by model, with intervals, and the memory that the methods keep."""
    models = results["models"]
    some_model = next(iter(models.values()))
    names = list(some_model["methods"])
    colours = [COLOURS.get(name, plot_style.BLUE) for name in names]
    with mpl.rc_context(plot_style.STYLE):
        figure, panels = plt.subplots(
            1,
            len(models) + 1,
            figsize=(3.2 * (len(models) + 1), 1.6 + 0.36 * len(names)),
            layout="constrained",
            sharey=True,
        )
        for axes, (model, result) in zip(panels, models.items(), strict=False):
            times = [result["methods"][name]["time"] for name in names]
            plot_style.ratio_bars(axes, colours, times)
            axes.set(title=MODELS[model].label, xlabel="Time per step (AdamW = 1)")
        copies = [some_model["methods"][name]["state"] for name in names]
        labels = [f"{n:.1f}" for n in copies]
        plot_style.bars(panels[-1], colours, copies, copies, labels)
        panels[-1].set(title="State", xlabel="Copies of the parameters")
        plot_style.name_rows(panels[0], [METHODS[n].label for n in names])
        note = f"Batch {some_model['batch_size']}. Lines: 95 % interval of the median."
        plot_style.save(figure, note, results["machine"], path)
