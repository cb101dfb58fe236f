"""The memory of each mode as bars."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks import plot_style
from benchmarks.memory_report import beyond_plain
from benchmarks.modes import LABELS, MODES
from benchmarks.trees import TREES


def save(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the state on device and host, a panel for each dtype of the params."""
    every = {d: beyond_plain(found) for d, found in results["dtypes"].items()}
    counted = {dtype: rows for dtype, rows in every.items() if rows}
    if not counted:  # interrupted before, or all refused
        return
    longest = max(map(len, counted.values()))
    with mpl.rc_context(plot_style.STYLE):
        figure, panels = plt.subplots(
            1,
            len(counted),
            figsize=(1.5 + 4.2 * len(counted), 1.7 + 0.36 * longest),
            layout="constrained",
            squeeze=False,
        )
        for axes, (dtype, rows) in zip(panels[0], counted.items(), strict=True):
            _draw(axes, dtype, rows)
        panels[0, 0].legend(
            loc="lower right", fontsize=8, frameon=False, handlelength=1
        )
        note = f"{TREES[results['tree']].label}, state beyond AdamW's."
        plot_style.save(figure, note, results["machine"], path)


def _draw(axes: Axes, dtype: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    device = [row["device"] for row in rows.values()]
    host = [row["host"] for row in rows.values()]
    targets = [MODES[name].most_state if dtype == "float32" else None for name in rows]
    ends = [
        max(d + h, most or 0.0)
        for d, h, most in zip(device, host, targets, strict=True)
    ]
    labels = [
        f"{d:.2f}" + (f" + {h:.2f}" if h else "")
        for d, h in zip(device, host, strict=True)
    ]
    colours = [plot_style.GREEN] * len(rows)
    plot_style.bars(axes, colours, device, ends, labels, label="device")
    style = {"color": plot_style.BLUE, "height": 0.7, "label": "host"}
    axes.barh(range(len(rows)), host, left=device, **style)
    for y, most in enumerate(targets):
        if most is not None:
            style = {"color": plot_style.RED, "label": None if y else "target"}
            axes.plot([most] * 2, [y - 0.4, y + 0.4], **style)
    axes.set(title=f"{dtype} parameters", xlabel="Copies of the parameters")
    plot_style.name_rows(axes, [LABELS[name] for name in rows])
