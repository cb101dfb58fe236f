"""How plots look: colours and markers of the methods, legends, and logarithmic axes."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.methods import METHODS
from experiments.report.frame import Trial, rate_words

# On a light and on a dark ground.
COLOURS = [method.colour[:2] for method in METHODS.values()]
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
LONGEST = 32  # letters of a name


def adapting(svg: str) -> str:
    """Colours that follow the scheme of the reader."""
    names = {pair[0]: f"--c{i}" for i, pair in enumerate((*COLOURS, INK, GRID, PAPER))}
    for light, name in names.items():
        svg = svg.replace(light, f"var({name})")
    pairs = dict(zip(names.values(), (*COLOURS, INK, GRID, PAPER), strict=True))
    light, dark = ("".join(f"{n}:{p[i]};" for n, p in pairs.items()) for i in (0, 1))
    dark = f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>svg{{{light}}}{dark}</style>\n<defs>", 1)


def mark(trial: Trial) -> dict[str, Any]:
    light, _, marker = METHODS[trial.method].colour
    return {"color": light, "marker": marker}


def short(trial: Trial) -> str:
    """What a legend says of a method; a plot has no room for more."""
    return trial.label if len(trial.label) <= LONGEST else f"{trial.label[:LONGEST]}…"


def legend(figure: Figure) -> None:
    figure.legend(loc="outside right upper", fontsize=8.5)


def log_axis(axis: Any, words: Callable[[float], str]) -> None:
    """A log axis with few ticks, written by `words`."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1,))
    )
    axis.set_major_formatter(FuncFormatter(lambda x, _: words(x)))
    axis.set_minor_formatter(NullFormatter())


def power(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1000 else rate_words(value)
