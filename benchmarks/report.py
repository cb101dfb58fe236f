"""The results as tables for the terminal and for Markdown, and as JSON."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from benchmarks import machine
from benchmarks.contenders import METHODS
from benchmarks.models import MODELS

COLUMNS = {
    "images/s": lambda row: f"{row['images_per_second']:.1f}",
    "time": lambda row: f"{row['time']['median']:.3f}",
    "95 %": lambda row: interval(row["time"]),
    "state": lambda row: f"{row['state']:.2f}",
    "memory": lambda row: f"{row['memory']:.2f}",
    "traffic": lambda row: f"{row['traffic']:.2f}",
    "FLOPs": lambda row: f"{row['flops']:.2f}",
    "copies": lambda row: f"{row['copies']}",
}
LEGEND = (
    "images/s: median. time: median over rounds, with its 95 % interval; memory: held"
    " while a step runs; traffic: bytes read and written, by the compiler's count; they"
    " and FLOPs are multiples of AdamW's. state: what is kept between steps beside the"
    " parameters, in copies of them. copies: operations of a step that only copy an"
    " array of a kernel's size."
)


def interval(value: Mapping[str, float]) -> str:
    """Formats `1.010-1.040`; nothing where nothing varies."""
    if value["low"] == value["high"]:
        return ""
    return f"{value['low']:.3f}-{value['high']:.3f}"


def table(model: str, result: Mapping[str, Any]) -> Table:
    """One row per method, for the terminal."""
    rich_table = Table(title=_title(model, result), box=box.SIMPLE_HEAD, padding=(0, 0))
    rich_table.add_column("Method", no_wrap=True)
    for column in COLUMNS:
        rich_table.add_column(column, justify="right", no_wrap=True)
    for name, row in result["methods"].items():
        cells = (cell(row) for cell in COLUMNS.values())
        rich_table.add_row(METHODS[name].label, *cells)
    return rich_table


def markdown(results: Mapping[str, Any]) -> str:
    """All tables, the targets, and what they were measured on."""
    blocks = []
    for model, result in results["models"].items():
        lines = [
            f"**{_title(model, result)}**",
            "",
            f"| method | {' | '.join(COLUMNS)} |",
            "|---|" + "---:|" * len(COLUMNS),
        ]
        for name, row in result["methods"].items():
            cells = " | ".join(cell(row) for cell in COLUMNS.values())
            lines.append(f"| {METHODS[name].label} | {cells} |")
        blocks.append("\n".join(lines))
    blocks.append(LEGEND)
    if results["targets"]:
        blocks.append("\n".join(f"- {line}" for line in verdict_lines(results)))
    blocks.append(f"Measured on {machine.in_words(results['machine'])}.")
    return "\n\n".join(blocks) + "\n"


def verdict_lines(results: Mapping[str, Any]) -> list[str]:
    """One sentence for each target and model."""
    lines = []
    for found in results["targets"]:
        verdict = "reached" if found["reached"] else "missed"
        doubt = "" if found["clear"] else ", within the noise"
        lines.append(
            f"{found['target']}, {MODELS[found['model']].label}: {verdict}{doubt},"
            f" {found['median']:.3f} ({interval(found)})."
        )
    return lines


def write(results: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes `methods.json` and `methods.md`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, allow_nan=False)
    (out / "methods.json").write_text(text + "\n", encoding="utf-8")
    (out / "methods.md").write_text(markdown(results), encoding="utf-8")


def _title(model: str, result: Mapping[str, Any]) -> str:
    params, rounds = result["num_params"], len(result["rounds"])
    return (
        f"{MODELS[model].label}, {params / 1e6:.2f} M parameters, {result['side']} px,"
        f" batch {result['batch_size']}, {rounds} round{'s' * (rounds > 1)}"
    )
