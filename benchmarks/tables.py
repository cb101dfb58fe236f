"""A table of results: how it looks in the terminal and in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import rich.table
from rich import box

Columns = Mapping[str, Callable[[Any], str]]  # heading -> a row's cell


class Table(NamedTuple):
    """Cells as text; the first column names the row, the others may be prose."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: bool = False


def of(title: str, first: str, columns: Columns, rows: Mapping[str, Any]) -> Table:
    """The table of these rows, by name, with a first column named `first`."""
    cells = [
        (name, *(cell(row) for cell in columns.values())) for name, row in rows.items()
    ]
    return Table(title, (first, *columns), cells)


def in_terminal(table: Table) -> rich.table.Table:
    """For a rich console."""
    padding = (0, 1) if table.prose else (0, 0)
    shown = rich.table.Table(title=table.title, box=box.SIMPLE_HEAD, padding=padding)
    first = table.head[0]
    shown.add_column(first[:1].upper() + first[1:], no_wrap=not table.prose)
    for column in table.head[1:]:
        if table.prose:
            shown.add_column(column)
        else:
            shown.add_column(column, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    return shown


def in_markdown(table: Table) -> str:
    """With the title in bold above it."""
    lines = [
        f"**{table.title}**",
        "",
        f"| {' | '.join(table.head)} |",
        "|---|" + ("---|" if table.prose else "---:|") * (len(table.head) - 1),
    ]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)
