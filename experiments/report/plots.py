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
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.report.frame import (
    BASELINE,
    ORDER,
    Group,
    Trial,
    frontier,
    rate_words,
)
from experiments.report.measures import (
    corruptions,
    kernels,
    layer_words,
    layers,
)
from experiments.studies import Record

# Colours on a light and on a dark ground, by the place of a method in the registry. The
# first are Okabe and Ito's, darkened where they would be pale; markers say it again.
COLOURS = (
    *(("#d55e00", "#ff8b45"), ("#0072b2", "#58b2f2"), ("#6b7280", "#a9b2c0")),
    *(("#7a4a1e", "#cda06f"), ("#882255", "#d9699c"), ("#858512", "#cdcd5c")),
    *(("#6848b0", "#ab90f0"), ("#c98500", "#f6bc42"), ("#cc79a7", "#eba0cb")),
    *(("#3296d8", "#86d0fb"), ("#009e73", "#2bd3a3"), ("#1b7f4d", "#7be0a8")),
    *(("#45b39d", "#a3e8d8"), ("#117a8b", "#63c7d8"), ("#b03a2e", "#f1948a")),
)
MARKERS = "^sh<vDp>XPod8H*"
INK, GRID, PAPER = (
    ("#3d4450", "#c8ced8"),
    ("#e3e6ea", "#333a45"),
    ("#ffffff", "#171b21"),
)
STYLE: Any = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color"), INK[0]),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), INK[0]),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), PAPER[0]),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID[0],
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    # A name is what it is, dollars included; text stays text; two runs are alike.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
FLOOR = 1e-12  # below this a radius is shown as this
LONGEST = 32  # letters of a name
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
            return Plot(key, title, shown, png.getvalue(), _adapting(svg.getvalue()))

        PLOTS.append(made)
        return made

    return register


def plots(group: Group) -> list[Plot]:
    """All plots that the group has numbers for."""
    return [found for make in PLOTS if (found := make(group))]


def colour(method: str) -> tuple[str, str]:
    """On a light and on a dark ground."""
    return COLOURS[ORDER[method] % len(COLOURS)]


def _adapting(svg: str) -> str:
    """Colours that follow the scheme of the reader."""
    names = {pair[0]: f"--c{i}" for i, pair in enumerate((*COLOURS, INK, GRID, PAPER))}
    for light, name in names.items():
        svg = svg.replace(light, f"var({name})")
    pairs = dict(zip(names.values(), (*COLOURS, INK, GRID, PAPER), strict=True))
    light, dark = ("".join(f"{n}:{p[i]};" for n, p in pairs.items()) for i in (0, 1))
    dark = f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>svg{{{light}}}{dark}</style>\n<defs>", 1)


# ---- ID and OOD --------------------------------------------------------------------


@plot("id_ood", "The frontier of ID and OOD", "Scatter plot of every setting.")
def plane(group: Group, figure: Figure) -> bool:
    found, axes, scale = frontier(group), figure.subplots(), group.metric.scale
    if found.empty:
        return False
    found[["id", "shift"]] *= scale
    settings, mixed = found[found["alpha"].isna()], found[found["alpha"].notna()]
    for method, rows in settings.groupby("method", sort=False):
        look = _mark(group.chosen[str(method)])
        axes.plot(rows["id"], rows["shift"], **look, alpha=0.35, ms=5, mew=0, ls="")
    for row in settings[settings["chosen"]].to_dict("records"):
        trial = group.chosen[row["method"]]
        found_bars = [trial.get(key) for key in (group.shift, "id")]
        bars = [scale * np.nan_to_num(v.half_width) for v in found_bars if v]
        look = {**_mark(trial), "label": _name(trial), "mec": PAPER[0], "ms": 9}
        axes.errorbar(row["id"], row["shift"], *bars, **look, ls="", elinewidth=1)
    for method, rows in mixed.groupby("method", sort=False):
        name = f"{_name(group.chosen[str(method)])} mixed with the start"
        look = {"color": colour("wise-ft")[0], "label": name, "lw": 1}
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
    _legend(figure)
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
    wide = min(WIDE, len(methods))
    tall = math.ceil(len(methods) / wide)
    figure.set_size_inches(max(2.4 * wide, 5.5), 2.4 * tall + 0.5)
    panels = figure.subplots(
        tall, wide, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for axes, method in zip(panels, methods, strict=False):
        if method != BASELINE:
            _rate_lines(axes, group, BASELINE, color=GRID[0], lw=2.5)
        _rate_lines(axes, group, method, color=colour(method)[0], marker="o", ms=3)
        chosen = group.chosen[method]
        for key in ("id", group.shift):
            y = group.column(key).scale * chosen.mean(key)
            axes.plot(chosen.rate, y, "o", ms=9, mfc="none", mec=colour(method)[0])
        names = [t.strength_words for t in group.of(method) if t.strength_words]
        strengths = f"\n{', '.join(dict.fromkeys(names))}" if names else ""
        axes.set_title(_name(chosen) + strengths, size=9)
    for axes in panels:
        axes.set_visible(axes.has_data())
        axes.set_xscale("log")
        _log(axes.xaxis, rate_words)
        axes.tick_params(labelbottom=True, labelsize=7)
    shift = f", dashed: {group.column(group.shift).label}" if group.shift else ""
    grey = "; grey: fine-tuning" if BASELINE in methods else ""
    figure.supylabel(f"{group.metric.label} ({group.metric.unit})", size=9)
    figure.supxlabel(
        f"Learning rate. Solid: ID test{shift}; ring: the chosen setting; darker: more"
        f" strength{grey}",
        size=9,
    )
    return True


def _rate_lines(axes: Axes, group: Group, method: str, **style: Any) -> None:
    """A line per strength of ID and of the shift, darker for more."""
    by_strength: dict[str, list[Trial]] = {}
    for trial in sorted(group.of(method), key=lambda t: np.nan_to_num(t.strength)):
        by_strength.setdefault(trial.strength_words, []).append(trial)
    for i, trials in enumerate(by_strength.values(), 1):
        x = [trial.rate for trial in trials]
        for key, dash in (("id", "-"), (group.shift, "--")):
            y = [group.column(key).scale * trial.mean(key) for trial in trials]
            axes.plot(x, y, ls=dash, alpha=0.3 + 0.7 * i / len(by_strength), **style)


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
        axes.plot(means.index, means, **_mark(trial), label=_name(trial))
    if most < 2:  # of one there is no line; tables have it
        return False
    axes.set(xlabel="Severity (0: clean)", ylabel=f"Mean ({group.metric.unit})")
    _legend(figure)
    return True


# ---- Layers and training -----------------------------------------------------------


@plot("drift_depth", "Drift over the depth", "Lines of each kernel's relative drift.")
def drift_depth(group: Group, figure: Figure) -> bool:
    axes, still, names = figure.subplots(), [], []
    for trial in group.chosen.values():
        found = kernels(layers(trial.records))["relative"]
        names = [layer_words(str(name)) for name in found.index]
        moved: Any = found.where(found > 1e-6)  # less is the rounding of a norm
        if moved.notna().any():
            axes.plot(range(len(moved)), moved, **_mark(trial), label=_name(trial))
        else:
            still.append(_name(trial))
    if not axes.lines:
        return False
    if still:
        axes.set_title(f"Not drawn, for they stand still: {', '.join(still)}", size=9)
    axes.set_ylabel("Drift / norm of the start")
    axes.set_yscale("log")
    _log(axes.yaxis, _power)
    ticks = range(0, len(names), math.ceil(len(names) / 32))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90, size=8)
    _legend(figure)
    return True


@plot("loss", "Training", "Lines of training loss and of ID validation by epoch.")
def loss(group: Group, figure: Figure) -> bool:
    left, right = figure.subplots(1, 2)
    scale = group.column("id_val").scale
    for trial in group.chosen.values():
        known = [r["history"] for r in trial.records if r.get("history")]
        for i, history in enumerate(known):
            values = pd.DataFrame(history).astype(float)
            look = {**_mark(trial), "ms": 3, "alpha": 0.3 if i else 1.0}
            if len(values) > FEW:
                look["marker"] = ""
            left.plot(values["step"], values["loss"], **look)
            name = "" if i else _name(trial)
            right.plot(values["step"], scale * values["id_val"], **look, label=name)
    if not left.lines:
        return False
    left.set(xlabel="Step", ylabel="Training loss, mean of the epoch")
    if all((np.asarray(line.get_ydata()) > 0).any() for line in left.lines):
        left.set_yscale("log")
        _log(left.yaxis, _power)
    right.set(xlabel="Step", ylabel=f"ID validation ({group.metric.unit})")
    _legend(figure)
    return True


@plot("radii", "Radii, layer by layer", "Heat maps of radii by layer and step.")
def radii(group: Group, figure: Figure) -> bool:
    found = [(_name(t), r) for t in group.chosen.values() for r in t.records[:1]]
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
    _log(bar.ax.yaxis, _power)
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


# ---- Style -------------------------------------------------------------------------


def _mark(trial: Trial) -> dict[str, Any]:
    marker = MARKERS[ORDER[trial.method] % len(MARKERS)]
    return {"color": colour(trial.method)[0], "marker": marker}


def _name(trial: Trial) -> str:
    """What a legend says of a method; a plot has no room for more."""
    return trial.label if len(trial.label) <= LONGEST else f"{trial.label[:LONGEST]}…"


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside right upper", fontsize=8.5)


def _log(axis: Any, words: Callable[[float], str]) -> None:
    """A log axis with few ticks, written by `words`."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1,))
    )
    axis.set_major_formatter(FuncFormatter(lambda x, _: words(x)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1000 else rate_words(value)
