"""The report as Markdown."""

import html
from collections.abc import Mapping, Sequence

from experiments.report.conclusion import conclusion
from experiments.report.measures import METRICS
from experiments.report.summarise import Group
from experiments.report.table import Cell, Table
from experiments.report.tables import overview, tables


def markdown(
    title: str,
    groups: Sequence[Group],
    notes: Sequence[str],
    plots: Mapping[str, Mapping[str, str]],
) -> str:
    """Writes the whole report.

    Args:
      title: of the report.
      groups: at least one.
      notes: what was left out.
      plots: `{group's slug: {file name: description}}`.
    """
    blocks = [f"# {title}"]
    if table := overview(groups):
        blocks += _table(table, "##")
    for group in groups:
        metric = METRICS.get(group.metric, group.metric)
        blocks += [f"## {group.title}", f"Metric: {metric}."]
        blocks.append("\n".join(f"- {line}" for line in conclusion(group)))
        for table in tables(group):
            blocks += _table(table, "###")
        blocks += [f"![{alt}]({name})" for name, alt in plots[group.slug].items()]
    if notes:
        blocks += ["## Left out", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def _table(table: Table, level: str) -> list[str]:
    marks = [":---" if i < table.words else "---:" for i in range(len(table.heads))]
    lines = [_row(table.heads), "|" + "|".join(marks) + "|"]
    lines += [_row([_cell(cell) for cell in row]) for row in table.rows]
    return [f"{level} {table.title}", table.caption, "\n".join(lines)]


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")
