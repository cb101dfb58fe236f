"""How plots look: colours that follow the scheme of the reader, and log axes."""

from collections.abc import Callable
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.methods import METHODS
from experiments.report.frame import Trial, rate_words

# On a light and on a dark ground.
INK, GRID, PAPER = (
    ("#3d4450", "#c8ced8"),
    ("#e3e6ea", "#333a45"),
    ("#ffffff", "#171b21"),
)
COLOURS = [*(method.colour[:2] for method in METHODS.values()), INK, GRID, PAPER]
STYLE: Any = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color"), INK[0]),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), INK[0]),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), PAPER[0]),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    "grid.color": GRID[0],
    "axes.titlesize": 10,
    "legend.frameon": False,
    "text.parse_math": False,  # a name is what it is, dollars included
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # two runs are alike
}
LONGEST = 32  # letters of a name


def adapting(svg: str) -> str:
    """Colours that follow the scheme of the reader."""
    for i, (light, _) in enumerate(COLOURS):
        svg = svg.replace(light, f"var(--c{i})")
    light, dark = (
        "".join(f"--c{i}:{pair[scheme]};" for i, pair in enumerate(COLOURS))
        for scheme in (0, 1)
    )
    dark = f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>svg{{{light}}}{dark}</style>\n<defs>", 1)


def short(text: str) -> str:
    """A name where a plot has no room for more."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def mark(trial: Trial) -> dict[str, Any]:
    light, _, marker = METHODS[trial.method].colour
    return {"color": light, "marker": marker, "label": trial.label}


def log_axis(axis: Any, words: Callable[[float], str]) -> None:
    """Few ticks on a log axis, written by `words`."""
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: words(x)))
    axis.set_minor_formatter(NullFormatter())


def power(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1000 else rate_words(value)
