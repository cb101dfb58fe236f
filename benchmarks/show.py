"""How are results told: targets, tables in Markdown, bars?"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = Mapping[str, Any]  # by column a number, a `Ratio`, a text, or `None`

# Of Okabe and Ito's palette, told apart with any colour vision.
GREY, GREEN, RED, BLUE = "#999999", "#009E73", "#D55E00", "#56B4E9"
INK = "#444444"
ENDS = ("median", "low", "high")  # of a ratio
COLOURS = {"AdamW": GREY, "FTP": GREEN, "FTP explicit": GREEN, "TPGM": RED}
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "savefig.dpi": 150,
}


class Report(NamedTuple):
    """What is said about the results, in this order."""

    tables: Sequence[str]
    legend: str
    targets: Sequence[dict[str, Any]]  # from `verdicts`
    notes: Sequence[str] = ()


class Target(NamedTuple):
    """A bound on what one column of one row holds, from above or from below."""

    text: str
    row: str
    column: str
    bound: float
    at_most: bool = True


def verdicts(
    targets: Iterable[Target], rows: Mapping[str, Row], where: str
) -> list[dict[str, Any]]:
    """Which bounds are kept; those on what was not measured are left out.

    Returns:
      Of each: `target`, `where`; `median`, by which it is judged; `low` and `high`;
      `reached`; and `clear`, all of the interval agrees.
    """
    judged = []
    for text, row, column, bound, at_most in targets:
        if (value := rows.get(row, {}).get(column)) is None:
            continue
        found: Any = value if isinstance(value, dict) else dict.fromkeys(ENDS, value)
        kept = [found[end] <= bound if at_most else found[end] >= bound for end in ENDS]
        verdict = {"reached": kept[0], "clear": len(set(kept)) == 1}
        judged.append({"target": text, "where": where, **found, **verdict})
    return judged


def sentence(verdict: Mapping[str, Any]) -> str:
    """Such as `A takes at most 2 times as long, here: reached, 1.5.`."""
    said = "reached" if verdict["reached"] else "missed"
    doubt = "" if verdict["clear"] else ", within the noise"
    spread, found = interval(verdict), verdict["median"]
    measured = f"{found:.3f} ({spread})" if spread else f"{found:.4g}"
    return f"{verdict['target']}, {verdict['where']}: {said}{doubt}, {measured}."


def interval(value: Mapping[str, Any]) -> str:
    """Formats `1.010-1.040`; nothing where nothing varies."""
    if value["low"] == value["high"]:
        return ""
    dash = " to " if value["low"] < 0 else "-"
    return f"{value['low']:.3f}{dash}{value['high']:.3f}"


def on(machine: Mapping[str, Any]) -> str:
    """The machine in one line, for a caption."""
    where = f"{machine['device']} ({machine['backend']})"
    if machine["backend"] == "cpu":
        where = f"{machine['processor']}, {machine['cores']} cores"
    return f"{where}; jax {machine['jax']}, optax {machine['optax']}"


def table(
    title: str, first: str, columns: Mapping[str, str], rows: Mapping[str, Row]
) -> str:
    """These rows in Markdown, named in the `first` column; ratios with their intervals.

    `columns` says by heading, which is a row's key too, how numbers are formatted.
    """
    lines = [[first], ["---"], *([name] for name in rows)]
    for key, form in columns.items():
        values = [row.get(key) for row in rows.values()]
        rule = "---" if any(isinstance(value, str) for value in values) else "---:"
        cells = [_cell(value, form) for value in values]
        if any(isinstance(value, dict) for value in values):
            key, rule = f"{key} | 95 %", f"{rule} | {rule}"
            spreads = [interval(v) if isinstance(v, dict) else "" for v in values]
            cells = [f"{c} | {s}" for c, s in zip(cells, spreads, strict=True)]
        for line, cell in zip(lines, [key, rule, *cells], strict=True):
            line.append(cell)
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any, form: str) -> str:
    if isinstance(value, dict):
        value = value["median"]
    return "–" if value is None else format(value, form)


def page(report: Report, machine: Mapping[str, Any]) -> str:
    """All in Markdown: tables, targets, and what they were measured on."""
    said = [*map(sentence, report.targets), *report.notes]
    lines = "\n".join(f"- {line}" for line in said)
    load = f"load {machine['load']} before, {machine['load_at_end']} after"
    end = f"Measured on {on(machine)}; {load}.\n"
    return "\n\n".join(filter(None, [*report.tables, report.legend, lines, end]))


class Bars(NamedTuple):
    """A panel of bars, one a row, as long as a column says; ratios with intervals.

    `behind` is a column that is added behind the bars, `mark` one of targets.
    """

    title: str
    rows: Mapping[str, Row]
    column: str
    xlabel: str = ""
    behind: str = ""
    mark: str = ""


def save_bars(
    grid: Sequence[Sequence[Bars]], note: str, machine: Row, path: pathlib.Path
) -> None:
    """Draws a grid of panels; those of a row share the names, the first on top."""
    rows, columns = len(grid), len(grid[0])
    most = max(len(panels[0].rows) for panels in grid)
    size = (1 + 3.2 * columns, 0.5 + (1.2 + 0.36 * most) * rows)
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, sharey="row"
        )
        for row, panels in zip(axes, grid, strict=True):
            for place, panel in zip(row, panels, strict=True):
                _draw(place, panel)
            names = list(panels[0].rows)
            row[0].set(yticks=range(len(names)), yticklabels=names)
            row[0].invert_yaxis()
        save(figure, note, machine, path)


def save(figure: Figure, note: str, machine: Row, path: pathlib.Path) -> None:
    """Writes the figure under a line with a note and the machine."""
    figure.suptitle(f"{note}\n{on(machine)}.", size=9, color=INK)
    figure.set_layout_engine("constrained")
    figure.savefig(path)
    plt.close(figure)


def _draw(axes: Axes, panel: Bars) -> None:
    longest = 0.0
    for y, (name, row) in enumerate(panel.rows.items()):
        value: Any = row.get(panel.column)
        if value is None:
            continue
        more, most = row.get(panel.behind, 0.0), row.get(panel.mark, 0.0)
        ratio: Any = value if isinstance(value, dict) else dict.fromkeys(ENDS, value)
        length = ratio["median"]
        axes.barh(y, length, color=COLOURS.get(name, BLUE), height=0.7)
        axes.barh(y, more, left=length, color=GREY, height=0.7)
        axes.plot([ratio["low"], ratio["high"]], [y, y], color=INK)
        if most:
            axes.plot([most, most], [y - 0.4, y + 0.4], color=RED)
        if ratio is value:
            axes.axvline(1.0, color=INK, lw=0.8, ls=":")
        end = max(ratio["high"], length + more, most)
        text = f" {length:.2f}" + (f" + {more:.2f}" if more else "")
        axes.text(end, y, text, va="center", size=9, color=INK)
        longest = max(longest, end)
    axes.set(title=panel.title, xlabel=panel.xlabel, xlim=(0, 1.25 * (longest or 1)))


def named(rows: Mapping[str, Row], known: Mapping[str, Any]) -> dict[str, Row]:
    """The rows under the labels of those that are known by these names."""
    return {known[name].label: row for name, row in rows.items()}
