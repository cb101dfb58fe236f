"""What a benchmark prints and leaves behind."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
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


def present(
    results: dict[str, Any],
    report: Report,
    out: pathlib.Path,
    console: Console,
    draw: Callable[[Mapping[str, Any], pathlib.Path], None] | None = None,
) -> None:
    """Writes and prints all there is, named after the job of the results.

    Args:
      results: with `job` and `machine`.
      report: what is said about them.
      out: folder, made if need be.
      console: to print on.
      draw: makes the plot, if there is to be one.
    """
    name = results["job"].rpartition(".")[2]
    write(results, report, out, name)
    show(report, console)
    if draw is not None:
        draw(results, out / f"{name}.png")
    console.print(f"Measured on {machine.in_words(results['machine'])}.")
    console.print(f"Everything is in {out}/.")
