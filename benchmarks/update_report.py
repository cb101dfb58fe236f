"""The cost of updates in tables and sentences."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import reference, tables, targets, update_summary
from benchmarks.output import Report
from benchmarks.ratios import interval
from benchmarks.trees import TREES
from benchmarks.update_summary import PUBLISHED

NOTHING = "–"


def _number(column: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    """A cell of a number or of a ratio's median; a dash where there is none."""

    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(column)
        if value is None:
            return NOTHING
        return format(value["median"] if isinstance(value, dict) else value, form)

    return cell


def _interval(column: str) -> Callable[[Mapping[str, Any]], str]:
    """A cell of a ratio's interval."""
    return lambda row: interval(row[column]) if row.get(column) else ""


COUNTED = {
    "passes": _number("passes", ".2f"),
    "bytes": _number("traffic", ".2f"),
    "copies": _number("copies", "d"),
    "state": _number("state", ".2f"),
    "programs": _number("compilations", "d"),
}
MEASURED = {
    "time": _number("time", ".2f"),
    "95 %": _interval("time"),
    "of limit": _number("of_limit", ".2f"),
    "compile": _number("compile", ".2f"),
    "95 % ": _interval("compile"),
}
LEGEND = (
    "By the compiler's account: passes: bytes read and written, in copies of the"
    " parameters; bytes: the same as a multiple of AdamW's; copies: operations that"
    " only copy an array of a kernel's size; state: kept between steps, in copies of"
    " the parameters; programs: compilations over all steps. Measured: time of a step,"
    " and compile, from tracing on, as multiples of AdamW's with 95 % intervals; of"
    " limit: time as a multiple of that of moving the bytes at the memory's bandwidth"
    " (below 1 where a tree fits into caches)."
)


def of(results: Mapping[str, Any]) -> Report:
    """One table for each tree, and one sentence for each target and tree."""
    lines = [
        targets.line(found, TREES[found["tree"]].label) for found in results["targets"]
    ]
    if "torch" not in results:
        lines.append(
            "The published PyTorch step was not measured: git clone"
            f" {reference.SOURCE}, then give --reference FTP."
        )
    shown = []
    for name, result in results["trees"].items():
        shown += _tables(name, result)
    return Report(shown, LEGEND, lines)


def _tables(name: str, result: Mapping[str, Any]) -> list[tables.Table]:
    rows = {update_summary.label(who): row for who, row in result["contenders"].items()}
    counted = (
        f"{TREES[name].label}, {result['num_params'] / 1e6:.1f} M parameters in"
        f" {result['leaves']} leaves: counted"
    )
    bandwidth = result["copied_bytes"] / update_summary.copying_seconds(
        result["rounds"]
    )
    rounds = len(result["rounds"])
    measured = (
        f"{TREES[name].label}: measured in {rounds} round{'s' * (rounds > 1)}, memory"
        f" at {bandwidth / 1e9:.1f} GB/s"
    )
    timed = dict(rows)
    if time := update_summary.published_time(result["rounds"]):
        timed[update_summary.label(PUBLISHED)] = {"time": time}
    return [
        tables.of(counted, "optimizer", COUNTED, rows),
        tables.of(measured, "optimizer", MEASURED, timed),
    ]
