"""The memory of each mode in tables and sentences."""

from collections.abc import Mapping
from typing import Any

from benchmarks import tables, targets
from benchmarks.modes import LABELS, MODES, PLAIN
from benchmarks.output import Report
from benchmarks.ratios import exactly
from benchmarks.tables import Table
from benchmarks.trees import TREES

COLUMNS = {
    "device": lambda row: f"{row['device']:.3f}",
    "host": lambda row: f"{row['host']:.3f}",
    "peak": lambda row: f"{row['peak']:.2f}",
    "temporaries": lambda row: f"{row['temporaries']:.3f}",
}
LEGEND = (
    "device, host: bytes of the state beyond AdamW's, in copies of the parameters;"
    " peak: bytes held on the device while a step runs (arguments, results and"
    " temporaries, what is donated counted once), as a multiple of AdamW's;"
    " temporaries: their part of it, in copies of the parameters."
)


def beyond_plain(
    found: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, float]]:
    """The columns of each mode of FTP, from bytes.

    Args:
      found: by contender, AdamW's among them, `device` and `host` (bytes of the state)
        and the fields of a `Cost`.
    """
    plain = found[PLAIN]
    return {
        name: {
            "device": (row["device"] - plain["device"]) / row["params"],
            "host": (row["host"] - plain["host"]) / row["params"],
            "peak": row["memory"] / plain["memory"],
            "temporaries": row["temporaries"] / row["params"],
        }
        for name, row in found.items()
        if name != PLAIN
    }


def verdicts(dtypes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which modes keep their target, which are for float32 params.

    Args:
      dtypes: by dtype of the params, what `beyond_plain` takes.
    """
    found = []
    counted = beyond_plain(dtypes["float32"]) if "float32" in dtypes else {}
    for name, row in counted.items():
        most = MODES[name].most_state
        if most is not None:
            text = f"FTP ({LABELS[name]}) keeps at most {most:g} copies on the device"
            # Radii and counters are some bytes more.
            copies = exactly(round(row["device"], 2))
            found.append(targets.judge(text, copies, most, at_most=True))
    return found


def of(results: Mapping[str, Any]) -> Report:
    """One table for each dtype, one of what is refused, one sentence a target."""
    tree = f"{TREES[results['tree']].label}, {results['num_params'] / 1e6:.1f} M"
    shown = [
        tables.of(
            f"{tree} {dtype} parameters",
            "FTP",
            COLUMNS,
            {LABELS[name]: row for name, row in beyond_plain(found).items()},
        )
        for dtype, found in results["dtypes"].items()
    ]
    refused = list(results["refused"].items())
    shown.append(Table("Refused", ("setting", "reason"), refused, prose=True))
    lines = [targets.line(found, "float32") for found in results["targets"]]
    return Report(shown, LEGEND, lines)
