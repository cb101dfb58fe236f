"""The plots of a group. A new one is one more function under `plot` here."""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.methods import METHODS
from experiments.report.frame import Group, frontier, rate_words
from experiments.report.measures import corruptions, kernels, layer_words, layers
from experiments.report.style import (
    INK,
    PAPER,
    STYLE,
    adapting,
    legend,
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


PLOTS: list[Callable[[Group], Plot | None]] = []


def plot(key: str, title: str, text: str) -> Callable[..., Any]:
    """Registers a function that draws, and says whether there was anything to draw."""

    def register(draw: Callable[[Group, Figure], bool]) -> Callable:
        def made(group: Group) -> Plot | None:
            with mpl.rc_context(STYLE):
                figure = Figure(figsize=(9, 5), layout="constrained")
                FigureCanvasAgg(figure)
                if not draw(group, figure):
                    return None
                png, svg = io.BytesIO(), io.StringIO()
                figure.savefig(png, format="png", dpi=120)
                figure.set_layout_engine("none")  # it is settled
                about = {"Date": None, "Creator": None}
                figure.savefig(svg, format="svg", metadata=about)
            shown = f"{text} {group.title}."
            return Plot(key, title, shown, png.getvalue(), adapting(svg.getvalue()))

        PLOTS.append(made)
        return made

    return register


def plots(group: Group) -> list[Plot]:
    """All plots that the group has numbers for."""
    return [found for make in PLOTS if (found := make(group))]


# ---- ID and OOD --------------------------------------------------------------------


@plot("id_ood", "The frontier of ID and OOD", "Scatter plot of every setting.")
def plane(group: Group, figure: Figure) -> bool:
    found, axes, scale = frontier(group), figure.subplots(), group.metric.scale
    if found.empty:
        return False
    found[["id", "shift"]] *= scale
    settings, mixed = found[found["alpha"].isna()], found[found["alpha"].notna()]
    for method, rows in settings.groupby("method", sort=False):
        look = mark(group.chosen[str(method)])
        axes.plot(rows["id"], rows["shift"], **look, alpha=0.35, ms=5, mew=0, ls="")
    for row in settings[settings["chosen"]].to_dict("records"):
        trial = group.chosen[row["method"]]
        found_bars = [trial.get(key) for key in (group.shift, "id")]
        bars = [scale * np.nan_to_num(v.half_width) for v in found_bars if v]
        look = {**mark(trial), "label": short(trial), "mec": PAPER[0], "ms": 9}
        axes.errorbar(row["id"], row["shift"], *bars, **look, ls="", elinewidth=1)
    for method, rows in mixed.groupby("method", sort=False):
        name = f"{short(group.chosen[str(method)])} mixed with the start"
        look = {"color": METHODS["wise-ft"].colour.light, "label": name, "lw": 1}
        axes.plot(rows["id"], rows["shift"], ".-", **look)
    hull = found[found["hull"]].sort_values("id")
    axes.plot(hull["id"], hull["shift"], "--", color=INK[0], lw=1, label="convex hull")
    shown = [found[found["chosen"] | found["hull"] | (found["alpha"] >= 0.1)]]
    start = [group.start.get(key) for key in ("id", str(group.shift))]
    if None not in start and "new" not in group.shared.start:  # that knows nothing
        x, y = (scale * value.mean for value in start if value)
        axes.plot(x, y, "*", color=INK[0], ms=14, label="start")
        shown.append(pd.DataFrame({"id": [x], "shift": [y]}))
    _look_at(axes, pd.concat(shown)[["id", "shift"]].to_numpy(float))
    unit = group.metric.unit
    axes.set_xlabel(f"{group.column('id').label} ({unit})")
    axes.set_ylabel(f"{group.column(group.shift).label} ({unit})")
    axes.set_title("Large: chosen settings. Faint: every setting in view.", loc="left")
    legend(figure)
    return True


def _look_at(axes: Axes, points: np.ndarray) -> None:
    """Limits around what matters: one wrecked run must not squeeze the rest."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(0.35 * (high - low), 0.02 * np.abs(high))
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


@plot("learning_rate", "What the learning rate does", "Lines of ID and OOD by rate.")
def rates(group: Group, figure: Figure) -> bool:
    trials = [trial for trial in group.trials if not math.isnan(trial.rate)]
    methods = list(dict.fromkeys(trial.method for trial in trials))
    if len(trials) == len(methods):  # one rate each: of one there is no line
        return False
    tall = math.ceil(len(methods) / WIDE)
    figure.set_size_inches(9.6, 2.4 * tall + 0.5)
    panels = figure.subplots(tall, WIDE, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels.flat, methods, strict=False):
        _rate_lines(axes, group, method)
        strengths = dict.fromkeys(t.strength_words for t in group.of(method))
        axes.set_title("\n".join((short(group.chosen[method]), ", ".join(strengths))))
    for axes in panels.flat:
        axes.set_visible(axes.has_data())
        axes.set_xscale("log")
        log_axis(axes.xaxis, rate_words)
        axes.tick_params(labelbottom=True, labelsize=7)
    shift = f", dashed: {group.column(group.shift).label}" if group.shift else ""
    said = f"Solid: ID test{shift}; darker: more strength; ring: the chosen setting"
    figure.supylabel(f"{group.metric.label} ({group.metric.unit})", size=9)
    figure.supxlabel(f"Learning rate. {said}", size=9)
    return True


def _rate_lines(axes: Axes, group: Group, method: str) -> None:
    """A line per strength of ID and of the shift, darker for more."""
    trials, hue = group.of(method), METHODS[method].colour.light
    strengths = sorted({np.nan_to_num(trial.strength) for trial in trials})
    for key, dash in (("id", "-"), (group.shift, "--")):
        at = lambda t, key=key: (t.rate, group.metric.scale * t.mean(key))
        for i, strength in enumerate(strengths, 1):
            line = [at(t) for t in trials if np.nan_to_num(t.strength) == strength]
            look = {"color": hue, "alpha": 0.3 + 0.7 * i / len(strengths), "ls": dash}
            axes.plot(*zip(*line, strict=True), marker="o", ms=3, **look)
        axes.plot(*at(group.chosen[method]), "o", ms=9, mfc="none", mec=hue)


@plot("severity", "What corruptions do", "Lines over severity, mean over corruptions.")
def severity(group: Group, figure: Figure) -> bool:
    axes, look = figure.subplots(), group.column("id")
    most = 0
    for trial in group.chosen.values():
        wide = corruptions(trial.records, group.metric.name)
        if wide.empty:
            continue
        means: Any = wide.mean().groupby(level=1).mean()
        most = max(most, len(means))
        means = pd.concat([pd.Series({0: trial.mean("id")}), means]) * look.scale
        axes.plot(means.index, means, **mark(trial), label=short(trial))
    if most < 2:  # of one there is no line; tables have it
        return False
    axes.set(xlabel="Severity (0: clean)", ylabel=f"Mean ({group.metric.unit})")
    legend(figure)
    return True


# ---- Layers and training -----------------------------------------------------------


@plot("drift_depth", "Drift over the depth", "Lines of each kernel's relative drift.")
def drift_depth(group: Group, figure: Figure) -> bool:
    axes, names = figure.subplots(), []
    for trial in group.chosen.values():
        found = kernels(layers(trial.records))["relative"]
        names = [layer_words(str(name)) for name in found.index]
        moved: Any = found.where(found > 1e-6)  # less is the rounding of a norm
        if moved.notna().any():
            axes.plot(range(len(moved)), moved, **mark(trial), label=short(trial))
    if not axes.lines:
        return False
    axes.set_ylabel("Drift / norm of the start")
    axes.set_yscale("log")
    log_axis(axes.yaxis, power)
    ticks = range(0, len(names), math.ceil(len(names) / 32))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90, size=8)
    legend(figure)
    return True


@plot("loss", "Training", "Lines of training loss and of ID validation by epoch.")
def loss(group: Group, figure: Figure) -> bool:
    left, right = figure.subplots(1, 2)
    scale = group.column("id_val").scale
    for trial in group.chosen.values():
        known = [r["history"] for r in trial.records if r.get("history")]
        for i, history in enumerate(known):
            values = pd.DataFrame(history).astype(float)
            look = {**mark(trial), "ms": 3, "alpha": 0.3 if i else 1.0}
            if len(values) > FEW:
                look["marker"] = ""
            left.plot(values["step"], values["loss"], **look)
            name = "" if i else short(trial)
            right.plot(values["step"], scale * values["id_val"], **look, label=name)
    if not left.lines:
        return False
    left.set(xlabel="Step", ylabel="Training loss, mean of the epoch")
    if all((np.asarray(line.get_ydata()) > 0).any() for line in left.lines):
        left.set_yscale("log")
        log_axis(left.yaxis, power)
    right.set(xlabel="Step", ylabel=f"ID validation ({group.metric.unit})")
    legend(figure)
    return True


@plot("radii", "Radii, layer by layer", "Heat maps of radii by layer and step.")
def radii(group: Group, figure: Figure) -> bool:
    found = [(short(t), r) for t in group.chosen.values() for r in t.records[:1]]
    maps = {label: m for label, record in found if (m := _radii(record)) is not None}
    if not maps:
        return False
    every = np.concatenate([m.to_numpy().ravel() for m in maps.values()])
    image: Any = None
    norm = LogNorm(np.nanmin(every), max(np.nanmax(every), 1.01 * np.nanmin(every)))
    rows = max(map(len, maps.values()))
    figure.set_size_inches(9, min(max(0.19 * rows + 1.2, 3), 10))
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    for i, (axes, (label, values)) in enumerate(zip(panels, maps.items(), strict=True)):
        image = axes.imshow(values, norm=norm, aspect="auto", interpolation="nearest")
        steps = range(0, values.shape[1], math.ceil(values.shape[1] / 6))
        axes.set_xticks(steps, [f"{values.columns[k]:g}" for k in steps])
        ticks = range(0, len(values), math.ceil(len(values) / 45)) if i == 0 else []
        names = [layer_words(str(values.index[k])) for k in ticks]
        axes.set_yticks(ticks, names, size=7)
        axes.set(title=f"{label}, first seed", xlabel="Step")
        axes.grid(visible=False)
    bar = figure.colorbar(image, ax=panels, label="Radius")
    log_axis(bar.ax.yaxis, power)
    return True


def _radii(record: Record) -> pd.DataFrame | None:
    """The radii of one run: layers in forward order by steps; `None` without any."""
    trace = record.get("trace") or {}
    known = trace.get("radius") or {}
    rows = {name: known[name] for name in record["layers"] if name in known}
    found = pd.DataFrame.from_dict(rows, orient="index").astype(float).clip(FLOOR)
    if not np.isfinite(found.to_numpy()).any():
        return None
    return found.set_axis(trace["step"], axis=1)
