"""The pictures of a run. Accuracies are drawn in per cent."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.quickstart.training import METHODS

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = {"linear-probe": "#0072B2", "adamw": "#D55E00", "ftp": "#009E73"}
MARKERS = {"linear-probe": "s", "adamw": "^", "ftp": "o"}
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#444444"

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

PLOTS = ("sweep.png", "id_ood.png", "radii.png", "drift.png", "domains.png")


def save_sweep(summary: Mapping[str, Any], path: pathlib.Path) -> None:
    """Learning rate against ID and OOD accuracy, with intervals."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
        for axes, column, title in zip(
            panels,
            ("id", "ood"),
            ("In-distribution", "Out-of-distribution"),
            strict=True,
        ):
            start = 100 * summary["pretrained"][column].mean
            axes.axhline(start, color=INK, ls=":", lw=1.5, label="Pre-trained")
            for method, rates in summary["sweep"].items():
                _sweep_line(axes, method, rates, summary["selected"][method], column)
            axes.set_xscale("log")
            axes.set(xlabel="Learning rate", ylabel="Test accuracy (%)", title=title)
        seeds = len(summary["seeds"])
        figure.suptitle(
            f"Band: 95 % interval over {seeds} seeds. Ring: the rate chosen on ID"
            " validation.",
            size=9,
            color=INK,
        )
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        _save(figure, path)


def _sweep_line(
    axes: Axes, method: str, rates: Mapping[float, Any], selected: float, column: str
) -> None:
    x = np.array(sorted(rates))
    mean = 100 * np.array([rates[rate][column].mean for rate in x])
    half = 100 * np.nan_to_num([rates[rate][column].half_width for rate in x])
    colour, marker = COLOURS[method], MARKERS[method]
    axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.18, lw=0)
    axes.plot(x, mean, color=colour, marker=marker, ms=5, label=METHODS[method])
    # A ring marks the rate that ID validation chose.
    axes.plot(
        selected,
        mean[list(x).index(selected)],
        marker="o",
        ms=12,
        mfc="none",
        mec=colour,
        mew=1.6,
    )


def save_id_ood(summary: Mapping[str, Any], path: pathlib.Path) -> None:
    """ID against OOD accuracy: each method's path as its learning rate grows."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        start = summary["pretrained"]
        axes.plot(
            100 * start["id"].mean,
            100 * start["ood"].mean,
            "*",
            ms=14,
            color=INK,
            label="Pre-trained",
        )
        for method, rates in summary["sweep"].items():
            x = [100 * rates[rate]["id"].mean for rate in sorted(rates)]
            y = [100 * rates[rate]["ood"].mean for rate in sorted(rates)]
            colour, marker = COLOURS[method], MARKERS[method]
            axes.plot(x, y, color=colour, marker=marker, ms=4, lw=1, alpha=0.45)
            row = rates[summary["selected"][method]]
            axes.errorbar(
                100 * row["id"].mean,
                100 * row["ood"].mean,
                xerr=100 * np.nan_to_num(row["id"].half_width),
                yerr=100 * np.nan_to_num(row["ood"].half_width),
                color=colour,
                marker=marker,
                ms=9,
                capsize=3,
                label=METHODS[method],
            )
        axes.set(xlabel="ID test accuracy (%)", ylabel="OOD accuracy (%)")
        axes.set_title("Large: the chosen rate. Small: the rest of the sweep.", size=10)
        figure.legend(loc="outside lower center", ncols=4)
        _save(figure, path)


def save_radii(
    steps: np.ndarray, radii: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Radius of each leaf over the steps, `{path: (len(steps),)}`."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, 2, figsize=(9.6, 3.8), layout="constrained", sharey=True
        )
        for axes, kind in zip(panels, ("kernel", "bias"), strict=True):
            layers = [name for name in radii if name.endswith(kind)]
            for name, colour in zip(layers, LINES, strict=False):
                label = name.removesuffix(f"/{kind}")
                axes.plot(steps, radii[name], color=colour, label=label)
            axes.set(xlabel="Step", title={"kernel": "Kernels", "bias": "Biases"}[kind])
        panels[0].set_ylim(bottom=0)  # last: it ends the scaling of both panels
        panels[0].set_ylabel("Radius (L1 norm of a row)")
        panels[1].legend(title="Layer", loc="center left", bbox_to_anchor=(1.0, 0.5))
        _save(figure, path)


def save_drift(drift: Mapping[str, Mapping[str, float]], path: pathlib.Path) -> None:
    """How far each leaf moved, `{method: {path: largest L1 norm of a row}}`."""
    leaves = list(next(iter(drift.values())))
    y = np.arange(len(leaves))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
        for method, by_leaf in drift.items():
            # On a log axis there is no place for the leaves a method leaves alone;
            # the norm of their change is its epsilon.
            values = [d if (d := by_leaf[leaf]) > 1e-6 else np.nan for leaf in leaves]
            axes.plot(
                values,
                y,
                MARKERS[method],
                color=COLOURS[method],
                ms=8,
                label=METHODS[method],
            )
        axes.set_xscale("log")
        axes.set_yticks(y, leaves)
        axes.invert_yaxis()
        axes.set_xlabel("Distance from the pre-trained weights (largest row L1 norm)")
        figure.legend(loc="outside lower center", ncols=len(drift))
        _save(figure, path)


def save_domains(
    groups: Mapping[str, Mapping[str, np.ndarray]], path: pathlib.Path
) -> None:
    """A few images of each domain, `{group: {domain: (k, side, side)}}`."""
    rows = max(len(domains) for domains in groups.values())
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows, len(groups), figsize=(9.0, 0.36 * rows + 0.4), layout="constrained"
        )
        for column, (group, domains) in enumerate(groups.items()):
            for axes in panels[:, column]:
                axes.set_axis_off()
            panels[0, column].set_title(group, size=10, weight="bold")
            for axes, (domain, images) in zip(
                panels[:, column], domains.items(), strict=False
            ):
                axes.imshow(_strip(images), cmap="gray", vmin=0, vmax=1)
                label = domain.replace("_", " ")
                axes.text(-2, 8, label, ha="right", va="center", size=9)
        _save(figure, path)


def _strip(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Images side by side, with a column of white between them."""
    padded = [np.pad(image, ((0, 0), (0, 2)), constant_values=1) for image in images]
    return np.concatenate(padded, axis=1)[:, :-2]


def _save(figure: Figure, path: pathlib.Path) -> None:
    figure.savefig(path)
    plt.close(figure)
