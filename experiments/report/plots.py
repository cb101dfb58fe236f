"""The plots of a group. A new one is one more function under `plot` here."""

import base64
import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.report.frame import Group, Trial, rate_words
from experiments.report.frontier import frontier
from experiments.report.measures import kernels, layer_words, layers
from experiments.report.style import (
    INK,
    PAPER,
    STYLE,
    adapting,
    log_axis,
    mark,
    power,
    short,
)
from experiments.studies import Record

FLOOR = 1e-12  # below this a radius is shown as this
WIDE = 4  # panels beside each other
FEW = 12  # points of a line that need marks to be seen


class Plot(NamedTuple):
    """A plot: the name of its file, a heading, what it shows in words, and itself."""

    key: str
    title: str
    text: str
    png: bytes
    svg: str

    @property
    def address(self) -> str:
        """The image as an address of its own: nothing in it can reach a page."""
        text = base64.b64encode(self.svg.encode()).decode()
        return f"data:image/svg+xml;base64,{text}"


PLOTS: list[Callable[[Group], Plot | None]] = []


def plot(key: str, title: str, text: str) -> Callable[..., Any]:
    """Registers a function that draws, if there is anything: axes with lines, say."""

    def register(draw: Callable[[Group, Figure], None]) -> Callable:
        def made(group: Group) -> Plot | None:
            png, svg = io.BytesIO(), io.StringIO()
            with mpl.rc_context(STYLE), warnings.catch_warnings():
                # A font lacks a letter of a name; the page has fonts of its own.
                warnings.filterwarnings("ignore", "Glyph", UserWarning)
                figure = Figure(figsize=(9, 5), layout="constrained")
                FigureCanvasAgg(figure)
                draw(group, figure)
                if not any(axes.has_data() for axes in figure.axes):
                    return None
                if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
                    figure.legend(loc="outside right upper", fontsize=8.5)
                figure.savefig(png, format="png", dpi=120)
                figure.set_layout_engine("none")  # it is settled
                about = {"Date": None, "Creator": None}
                figure.savefig(svg, format="svg", metadata=about)
            alt = f"{text} {group.title}."
            return Plot(key, title, alt, png.getvalue(), adapting(svg.getvalue()))

        PLOTS.append(made)
        return made

    return register


def plots(group: Group) -> list[Plot]:
    """All plots that the group has numbers for."""
    return [made for make in PLOTS if (made := make(group))]


# ---- ID and OOD --------------------------------------------------------------------


@plot("id_ood", "The frontier of ID and OOD", "Scatter plot of every setting.")
def plane(group: Group, figure: Figure) -> None:
    points, scale = frontier(group), group.metric.scale
    if points.empty:
        return
    axes, at = figure.subplots(), ["id", str(group.shift)]
    points[["id", "shift"]] *= scale
    settings, mixed = points[points["alpha"].isna()], points[points["alpha"].notna()]
    for method, rows in settings.groupby("method", sort=False):
        trial = group.chosen[method]
        look = mark(trial)
        faint = look | {"alpha": 0.35, "ms": 5, "mew": 0, "ls": "", "label": ""}
        axes.plot(rows["id"], rows["shift"], **faint)
        bars = [trial.get(key) for key in reversed(at)]
        bars = [scale * np.nan_to_num(bar.half_width) for bar in bars if bar]
        look |= {"mec": PAPER[0], "ms": 9, "ls": "", "elinewidth": 1}
        for x, y in rows.loc[rows["chosen"], ["id", "shift"]].to_numpy():
            axes.errorbar(x, y, *bars, **look)
    for method, rows in mixed.groupby("method", sort=False):
        look = mark(group.chosen[method]) | {"marker": ".", "lw": 1}
        look["label"] += " mixed with the start"
        axes.plot(rows["id"], rows["shift"], "-", **look)
    hull = points[points["hull"]].sort_values("id")
    axes.plot(hull["id"], hull["shift"], "--", color=INK[0], lw=1, label="convex hull")
    near = points[points["chosen"] | points["hull"] | (points["alpha"] >= 0.1)]
    near = near[["id", "shift"]].to_numpy(float)
    start = [scale * group.start[key].mean for key in at if key in group.start]
    if len(start) == 2 and "new" not in group.shared.start:  # that knows nothing
        axes.plot(*start, "*", color=INK[0], ms=14, label="start")
        near = np.vstack([near, start])
    # Around what matters: one wrecked run must not squeeze the rest.
    low, high = near.min(axis=0), near.max(axis=0)
    margin = np.maximum(0.35 * (high - low), 0.02 * np.abs(high) + 1e-3 * scale)
    limits = np.stack([low - margin, high + margin], axis=1)
    axes.set(xlim=limits[0], ylim=limits[1])
    unit = short(group.metric.unit)
    names = [f"{group.column(key).label} ({unit})" for key in at]
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_title("Large: chosen settings. Faint: every setting in view.", loc="left")


@plot("learning_rate", "What the learning rate does", "Lines of ID and OOD by rate.")
def rates(group: Group, figure: Figure) -> None:
    trials = [trial for trial in group.trials if trial.words[1]]
    methods = list(dict.fromkeys(trial.method for trial in trials))
    if len(trials) == len(methods):  # one rate each: of one there is no line
        return
    wide = min(WIDE, len(methods))
    tall = math.ceil(len(methods) / wide)
    figure.set_size_inches(max(2.4 * wide, 7.2), 2.4 * tall + 0.5)
    panels = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels.flat, methods, strict=False):
        _rate_lines(axes, group, group.chosen[method])
    for axes in panels.flat:
        axes.set(visible=axes.has_data(), xscale="log")
        log_axis(axes.xaxis, rate_words)
        axes.tick_params(labelbottom=True, labelsize=7)
    shift = f", dashed: {group.column(group.shift).label}" if group.shift else ""
    said = f"Solid: ID test{shift}; darker: more strength; ring: the chosen setting"
    figure.supylabel(
        f"{short(group.metric.label)} ({short(group.metric.unit)})", size=9
    )
    figure.supxlabel(f"Learning rate. {said}", size=9)


def _rate_lines(axes: Axes, group: Group, chosen: Trial) -> None:
    """A line per strength of ID and of the shift, darker for more."""
    lines: dict[str, list[Trial]] = {}
    for trial in sorted(group.of(chosen.method), key=lambda trial: trial.strength):
        lines.setdefault(trial.words[2], []).append(trial)
    hue = mark(chosen)["color"]
    for key, dash in (("id", "-"), (group.shift, "--")):
        at = lambda t, key=key: (t.rate, group.metric.scale * t.mean(key))
        for i, line in enumerate(lines.values(), 1):
            look = {"color": hue, "alpha": 0.3 + 0.7 * i / len(lines), "ls": dash}
            axes.plot(*zip(*map(at, line), strict=True), marker="o", ms=3, **look)
        axes.plot(*at(chosen), "o", ms=9, mfc="none", mec=hue)
    axes.set_title(f"{chosen.label}\n{', '.join(lines)}")


@plot("severity", "What corruptions do", "Lines over severity, mean over corruptions.")
def severity(group: Group, figure: Figure) -> None:
    keys = [key for key in group.columns if key.startswith("severity/")]
    if len(keys) < 2:  # of one there is no line; tables have it
        return
    axes = figure.subplots()
    for trial in group.chosen.values():
        values = [group.metric.scale * trial.mean(key) for key in ("id", *keys)]
        at = [0, *(int(key.partition("/")[2]) for key in keys)]
        axes.plot(at, values, **mark(trial))
    axes.set(xlabel="Severity (0: clean)", ylabel=f"Mean ({short(group.metric.unit)})")


@plot("tasks", "Task after task", "Lines of the mean over tasks learned so far.")
def tasks(group: Group, figure: Figure) -> None:
    if not group.is_sequence:
        return
    axes = figure.subplots()
    for trial in group.chosen.values():
        mean = group.metric.scale * trial.tasks.to_numpy()
        so_far = [mean[i, : i + 1].mean() for i in range(len(mean))]
        axes.plot(range(1, len(mean) + 1), so_far, **mark(trial))
        axes.set_xticks(range(1, len(mean) + 1))
    label = f"Mean over these tasks ({short(group.metric.unit)})"
    axes.set(xlabel="Tasks learned", ylabel=label)


# ---- Layers and training -----------------------------------------------------------


@plot("drift_depth", "Drift over the depth", "Lines of each kernel's relative drift.")
def drift_depth(group: Group, figure: Figure) -> None:
    axes, names = figure.subplots(), []
    for trial in group.chosen.values():
        moved = kernels(layers(trial.records))["relative"]
        names = [short(layer_words(name)) for name in moved.index]
        moved = moved.where(moved > 1e-6)  # less is the rounding of a norm
        if moved.notna().any():
            axes.plot(range(len(moved)), moved, **mark(trial))
    axes.set(ylabel="Drift / norm of the start", yscale="log")
    log_axis(axes.yaxis, power)
    ticks = range(0, len(names), math.ceil(len(names) / 32) or 1)
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90, size=8)


@plot("loss", "Training", "Lines of training loss and of ID validation by epoch.")
def loss(group: Group, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    for trial in group.chosen.values():
        look = mark(trial) | {"ms": 3}
        for history in filter(None, (r.get("history") for r in trial.records)):
            values = pd.DataFrame(history).astype(float)
            look |= {"marker": ""} if len(values) > FEW else {}
            left.plot(values["step"], values["loss"], **look | {"label": ""})
            right.plot(values["step"], group.metric.scale * values["id_val"], **look)
            look |= {"alpha": 0.3, "label": ""}  # of the other seeds
    left.set(xlabel="Step", ylabel="Training loss, mean of the epoch")
    if all((np.asarray(line.get_ydata()) > 0).any() for line in left.lines):
        left.set_yscale("log")
        log_axis(left.yaxis, power)
    right.set(xlabel="Step", ylabel=f"ID validation ({short(group.metric.unit)})")


@plot("radii", "Radii, layer by layer", "Heat maps of radii by layer and step.")
def radii(group: Group, figure: Figure) -> None:
    maps = {trial.label: _radii(trial.records[0]) for trial in group.chosen.values()}
    maps = {
        label: radii for label, radii in maps.items() if radii.notna().any(axis=None)
    }
    if not maps:
        return
    every = np.concatenate([values.to_numpy().ravel() for values in maps.values()])
    low, high = np.nanmin(every), np.nanmax(every)
    norm = LogNorm(low, max(high, 1.01 * low))
    rows = max(map(len, maps.values()))
    figure.set_size_inches(9, min(max(0.19 * rows + 1.2, 3), 10))
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    image: Any = None
    for axes, (label, values) in zip(panels, maps.items(), strict=True):
        image = axes.imshow(values, norm=norm, aspect="auto", interpolation="nearest")
        steps = range(0, values.shape[1], math.ceil(values.shape[1] / 6))
        axes.set_xticks(steps, [f"{values.columns[k]:g}" for k in steps])
        ticks = range(0, len(values), math.ceil(len(values) / 45))
        names = [short(layer_words(values.index[k])) for k in ticks]
        axes.set_yticks(ticks, names if axes is panels[0] else [], size=7)
        axes.set(title=f"{label}, first seed", xlabel="Step")
        axes.grid(visible=False)
    log_axis(figure.colorbar(image, ax=panels, label="Radius").ax.yaxis, power)


def _radii(record: Record) -> pd.DataFrame:
    """The radii of one run: layers in forward order by steps; empty without any."""
    trace = record.get("trace") or {"step": []}
    known = trace.get("radius", {})
    rows = {name: known[name] for name in record["layers"] if name in known}
    values = pd.DataFrame.from_dict(rows, orient="index", columns=trace["step"])
    return values.astype(float).clip(FLOOR)
