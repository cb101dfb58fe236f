"""The comparison of methods in tables and sentences."""

from collections.abc import Mapping
from typing import Any

from benchmarks import summary, tables, targets
from benchmarks.contenders import METHODS
from benchmarks.models import MODELS
from benchmarks.output import Report
from benchmarks.ratios import interval

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


def of(results: Mapping[str, Any]) -> Report:
    """One table for each model, and one sentence for each target and model."""
    shown = [
        tables.of(
            _title(model, result),
            "method",
            COLUMNS,
            {METHODS[name].label: row for name, row in result["methods"].items()},
        )
        for model, result in results["models"].items()
    ]
    lines = [
        targets.line(found, MODELS[found["model"]].label)
        for found in results["targets"]
    ]
    unset = f"The targets are set for batch {summary.TARGET_BATCH}."
    return Report(shown, LEGEND, lines or [unset])


def _title(model: str, result: Mapping[str, Any]) -> str:
    params, rounds = result["num_params"], len(result["rounds"])
    return (
        f"{MODELS[model].label}, {params / 1e6:.2f} M parameters, {result['side']} px,"
        f" batch {result['batch_size']}, {rounds} round{'s' * (rounds > 1)}"
    )
