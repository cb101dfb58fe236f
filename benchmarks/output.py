"""What a benchmark prints and leaves behind."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import machine, tables
from benchmarks.tables import Table


class Report(NamedTuple):
    """What is said about the results, in this order."""

    tables: Sequence[Table]
    legend: str
    lines: Sequence[str]  # the targets


def markdown(report: Report, measured_on: Mapping[str, Any]) -> str:
    """All tables, the targets, and what they were measured on."""
    blocks = [*map(tables.in_markdown, report.tables), report.legend]
    if report.lines:
        blocks.append("\n".join(f"- {line}" for line in report.lines))
    blocks.append(f"Measured on {machine.in_words(measured_on)}.")
    return "\n\n".join(blocks) + "\n"


def write(
    results: dict[str, Any], report: Report, out: pathlib.Path, name: str
) -> None:
    """Writes `<name>.json` and `<name>.md`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, allow_nan=False)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    page = markdown(report, results["machine"])
    (out / f"{name}.md").write_text(page, encoding="utf-8")


def show(report: Report, console: Console) -> None:
    """Prints tables, legend and targets."""
    for table in report.tables:
        console.print(tables.in_terminal(table))
    console.print(report.legend, highlight=False)
    for line in report.lines:
        console.print(f"- {line}", highlight=False, soft_wrap=True)


def sign_off(
    measured_on: Mapping[str, Any], out: pathlib.Path, console: Console
) -> None:
    """Prints on what it was measured, and where everything is."""
    console.print(f"Measured on {machine.in_words(measured_on)}.")
    console.print(f"Everything is in {out}/.")
