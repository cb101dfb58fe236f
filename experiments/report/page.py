"""The report as Markdown, and as one page that needs no other file and no network."""

import base64
import html
import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from experiments.report.frame import Group
from experiments.report.measures import column
from experiments.report.plots import Plot
from experiments.report.sentences import cards, sentences
from experiments.report.tables import Best, Table, overview, tables

MARK = Markup('<meta name="generator" content="experiments.report">')
TEMPLATE = pathlib.Path(__file__).with_name("page.html.j2")


class Section(NamedTuple):
    """All that a report shows of a group."""

    slug: str
    group: Group
    plots: Sequence[Plot]
    files: Sequence[str]  # of the plots, as PNG

    @property
    def metric(self) -> str:
        metric = self.group.metric
        better = "more" if metric.higher_is_better else "less"
        return f"Metric: {metric.label}, in {metric.unit}; {better} is better."


def page(title: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Writes the page: a loop over whatever tables and plots there are."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = _data
    environment.tests["best"] = lambda cell: isinstance(cell, Best)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        mark=MARK,
        title=title,
        intro=_intro([section.group for section in sections]),
        overview=overview([section.group for section in sections]),
        sections=sections,
        cards=cards,
        sentences=sentences,
        tables=tables,
        hints=_hints,
        kind=_kind,
        notes=notes,
    )


def markdown(title: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Writes the same as Markdown."""
    blocks = [f"# {_escaped(title)}"]
    if table := overview([section.group for section in sections]):
        blocks += _table(table, "##")
    for section in sections:
        blocks += [f"## {_escaped(section.group.title)}", _escaped(section.metric)]
        lines = sentences(section.group)
        blocks.append("\n".join(f"- {_escaped(line)}" for line in lines))
        for table in tables(section.group):
            blocks += _table(table, "###")
        for plot, file in zip(section.plots, section.files, strict=True):
            blocks += [
                f"### {_escaped(plot.title)}",
                f"![{_escaped(plot.text)}]({file})",
            ]
    if notes:
        blocks += ["## Left out", "\n".join(f"- {_escaped(note)}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def _table(table: Table, level: str) -> list[str]:
    cells = table.cells
    marks = ["---:" if _kind(cells[head]) else ":---" for head in cells]
    bold = lambda cell: (
        f"**{_escaped(cell)}**" if isinstance(cell, Best) else _escaped(cell)
    )
    rows = [map(_escaped, cells), marks, *(map(bold, row) for row in cells.to_numpy())]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return [f"{level} {_escaped(table.title)}", _escaped(table.caption), lines]


def _escaped(text: str) -> str:
    """Text of which Markdown makes neither markup nor links nor formulas."""
    return re.sub(r"([\\`*_\[\]|$~])", r"\\\1", html.escape(text, quote=False))


def _kind(cells: Any) -> str:
    """`number` of a column of numbers, which stand to the right, or nothing."""
    said = [cell for cell in cells if cell not in ("", "–")]
    numbers = all(re.match(r"[+-]?\d", cell) for cell in said)
    return "number" if said and numbers else ""


def _hints(group: Group) -> dict[str, str]:
    """What each column of numbers holds, by its heading."""
    found = [column(key, group.metric) for key in group.columns]
    return defaultdict(str, {look.label: look.hint for look in found})


def _data(svg: str) -> Markup:
    """An image as an address of its own: nothing in it can reach the page."""
    text = base64.b64encode(svg.encode()).decode()
    return Markup(f"data:image/svg+xml;base64,{text}")


def _intro(groups: Sequence[Group]) -> str:
    runs = {r["place"]: r for group in groups for r in group.runs["record"]}.values()
    hours = sum(run.get("seconds") or 0.0 for run in runs) / 3600
    counts = {
        "run": len(runs),
        "method": len({run["method"] for run in runs}),
        "seed": len({run["seed"] for run in runs}),
    }
    parts: list[Any] = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items()]
    parts += dict.fromkeys(group.shared.model for group in groups)
    return " · ".join([*parts, *([f"{hours:.1f} h of training"] if hours else [])])
