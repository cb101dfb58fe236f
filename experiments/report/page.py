"""The report as Markdown, and the same as one page that needs no other file."""

import html
import pathlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from markdown_it import MarkdownIt

from experiments.report.frame import Group
from experiments.report.plots import Plot
from experiments.report.sentences import cards, sentences
from experiments.report.tables import Best, Table, overview, tables

TEMPLATE = pathlib.Path(__file__).with_name("page.html")
MARK = b'<meta name="generator" content="experiments.report">'  # of a page that is ours
_REGION = '<div class="scroll" tabindex="0" role="region" aria-label'
_HTML = {  # what Markdown cannot say: regions that scroll, heads of rows, and folds
    r"<table>(.*?)</table>": rf'{_REGION}="Table"><table>\1</table></div>',
    r"(<tr>\n)<td(.*?)>(.*?)</td>": r'\1<th scope="row"\2>\3</th>',
    r"<p>(<img.*?>)</p>": rf'{_REGION}="Plot">\1</div>',
    r"<h4>(.*?)</h4>(.*?)(?=<h4>|\Z)": r"<details><summary>\1</summary>\2</details>",
}

# ---- Markdown ----------------------------------------------------------------------


def markdown(
    title: str,
    groups: Sequence[Group],
    pictures: Sequence[Mapping[str, Plot]],
    notes: Sequence[str],
) -> str:
    """The whole report; `pictures` are the plots of each group by file."""
    blocks = [f"# {escaped(title)}", _intro(groups)]
    for table in overview(groups):
        blocks += _table(table, "##")
    for group, plots in zip(groups, pictures, strict=True):
        blocks += _section(group, plots)
    if notes:
        blocks += ["## Left out", "\n".join(f"- {escaped(note)}" for note in notes)]
    text = "\n\n".join(filter(None, blocks)) + "\n"
    return text.replace(" ± ", " ±\u00a0")  # which stay together


def _intro(groups: Sequence[Group]) -> str:
    """How much the report rests on."""
    runs = pd.concat([group.runs for group in groups])
    records = {record["place"]: record for record in runs["record"]}
    hours = sum(record.get("seconds") or 0.0 for record in records.values()) / 3600
    counts = {"run": len(records), "method": runs["method"].nunique()}
    counts["seed"] = runs["seed"].nunique()
    parts = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
    parts += dict.fromkeys(group.shared.model for group in groups)
    parts += [f"{hours:.1f} h of training"] if hours else []
    return escaped(" · ".join(parts))


def _section(group: Group, plots: Mapping[str, Plot]) -> list[str]:
    metric = group.metric
    better = "more" if metric.higher_is_better else "less"
    about = f"Metric: {metric.label}, in {metric.unit}; {better} is better."
    numbers = ["* {} **{}** ({})".format(*map(escaped, card)) for card in cards(group)]
    said = [f"- {escaped(line)}" for line in sentences(group)]
    blocks = [f"## {escaped(group.title)}", escaped(about)]
    blocks += ["\n".join(numbers), "\n".join(said)]
    every = tables(group)
    blocks += [x for t in every if not t.folded for x in _table(t, "###")]
    for file, plot in plots.items():
        blocks += [f"### {plot.title}", f"![{escaped(plot.text)}]({file})"]
    blocks.append("### In detail")
    return blocks + [x for t in every if t.folded for x in _table(t, "####")]


def _table(table: Table, level: str) -> list[str]:
    cells = table.cells
    marks = ["---:" if _are_numbers(cells[head]) else ":---" for head in cells]
    rows = [map(escaped, cells), marks, *(map(_cell, row) for row in cells.to_numpy())]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return [f"{level} {table.title}", table.caption, lines]


def _cell(text: str) -> str:
    return f"**{escaped(text)}**" if isinstance(text, Best) else escaped(text)


def _are_numbers(cells: Iterable[str]) -> bool:
    """Whether a column holds numbers, which stand to the right."""
    said = [cell for cell in cells if cell not in ("", "–")]
    return bool(said) and all(re.match(r"[+-]?\d", cell) for cell in said)


def escaped(text: str) -> str:
    """Text of which Markdown makes neither markup nor links nor formulas."""
    return re.sub(r"([\\`*_\[\]|$~])", r"\\\1", html.escape(text, quote=False))


# ---- The page ----------------------------------------------------------------------


def page(title: str, report: str, plots: Mapping[str, Plot]) -> str:
    """The Markdown of a report as a page; `plots` are all of its plots by file."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(report)
    for token in tokens:
        if token.type == "bullet_list_open" and token.markup == "*":
            token.attrSet("class", "cards")
    text = parser.renderer.render(tokens, parser.options, {})
    head, *parts = re.split(r"(?=<h2>)", text)
    names = re.findall(r"<h2>(.*?)</h2>", text)
    links = [f'<a href="#part-{i}">{name}</a>' for i, name in enumerate(names)]
    nav = f'<nav aria-label="Parts">{" ".join(links)}</nav>' if links[1:] else ""
    body = [
        f'<section id="part-{i}">\n{_finished(part, plots)}</section>'
        for i, part in enumerate(parts)
    ]
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title), head=head + nav, body="\n".join(body)
    )


def _finished(text: str, plots: Mapping[str, Plot]) -> str:
    """A part of the page with what Markdown cannot say, and its plots inside."""
    for tags, instead in _HTML.items():
        text = re.sub(tags, instead, text, flags=re.DOTALL)
    return re.sub(r'src="(plots/.*?)"', lambda x: f'src="{plots[x[1]].address}"', text)
