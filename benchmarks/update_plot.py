"""The cost of updates as bars."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks import plot_style, update_summary
from benchmarks.modes import EXPLICIT, PLAIN
from benchmarks.ratios import interval
from benchmarks.trees import TREES
from benchmarks.update_summary import PUBLISHED

COLOURS = {
    PLAIN: plot_style.GREY,
    EXPLICIT: plot_style.GREEN,
}


def save(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws bytes, time and compile time of each optimizer, a row for each tree."""
    shown = results["trees"]
    with mpl.rc_context(plot_style.STYLE):
        some = next(iter(shown.values()))
        height = 1.3 + 0.36 * len(some["contenders"])
        figure, panels = plt.subplots(
            len(shown),
            3,
            figsize=(10.5, 0.4 + height * len(shown)),
            layout="constrained",
            squeeze=False,
            sharey="row",
        )
        for row, (name, result) in zip(panels, shown.items(), strict=True):
            _draw(row, TREES[name].label, result)
        note = "AdamW = 1. Lines: 95 % interval of the median."
        plot_style.save(figure, note, results["machine"], path)


def _draw(panels: Any, label: str, result: Mapping[str, Any]) -> None:
    rows = result["contenders"]
    times = {who: row["time"] for who, row in rows.items()}
    traffic = {who: row["traffic"] for who, row in rows.items()}
    compiles = {who: row["compile"] for who, row in rows.items() if row["compile"]}
    name_colours = lambda names: [COLOURS.get(n, plot_style.BLUE) for n in names]

    moved = list(traffic.values())
    labels = [f"{n:.2f}" for n in moved]
    plot_style.bars(panels[0], name_colours(traffic), moved, moved, labels)
    plot_style.ratio_bars(panels[1], name_colours(times), list(times.values()))
    if compiles:
        plot_style.ratio_bars(
            panels[2], name_colours(compiles), list(compiles.values())
        )
    if published := update_summary.published_time(result["rounds"]):
        # As a bar it would dwarf the others.
        said = f"{published['median']:.1f} ({interval(published)})"
        panels[1].set_xlabel(f"{update_summary.label(PUBLISHED)}: {said}", size=9)
    titles = (f"{label}: bytes moved", "time of an update", "time to compile")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, size=10)
    plot_style.name_rows(panels[0], [update_summary.label(name) for name in rows])
