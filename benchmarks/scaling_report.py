"""The growth of cost in tables and sentences: which slopes are linear or better?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import slopes, tables, targets
from benchmarks.modes import LABELS, PLAIN
from benchmarks.output import Report
from benchmarks.ratios import Ratio, interval, ratio
from benchmarks.scaling_series import FTP
from benchmarks.slopes import Series

Points = Sequence[Mapping[str, Any]]


class Quantity(NamedTuple):
    """What grows along an axis.

    Attributes:
      label: in a table.
      axis: along which.
      key: of a contender's measurements; a list is taken at its median.
      most: the slope that the target allows.
      goal: the target in words.
    """

    label: str
    axis: str
    key: str
    most: float
    goal: str


LINEAR = "grows linearly or better"
SHARED = "of each device falls as their number grows, or better"
QUANTITIES = (
    Quantity("time", "params", "seconds", slopes.LINEAR, LINEAR),
    Quantity("traffic", "params", "traffic", slopes.LINEAR, LINEAR),
    Quantity("time", "leaves", "seconds", slopes.LINEAR, LINEAR),
    Quantity("compile time", "leaves", "compile_seconds", slopes.LINEAR, LINEAR),
    Quantity("traffic", "devices", "traffic", slopes.LINEAR - 2, SHARED),
    Quantity("state", "devices", "state", slopes.LINEAR - 2, SHARED),
)
LEGEND = (
    "time: of an update; compile: from tracing on; traffic: bytes read and written, by"
    " the compiler's count; each FTP's, as a multiple of its first row, and as a"
    " multiple of AdamW's, with a 95 % interval for the time. slope: of the logarithms,"
    " by least squares, with its 95 % interval; 1 is linear, -1 a fair share for each"
    " device; end: the slope between the last two rows. Devices are simulated on one"
    " machine: traffic and state are those of one device; between: results of"
    " operations between devices, in % of its traffic."
)


def series(points: Points, contender: str, key: str) -> Series:
    """One quantity of a contender; a list of measurements is taken at its median."""
    middle = lambda value: float(np.median(value))
    return Series([p["x"] for p in points], [middle(p[contender][key]) for p in points])


def slopes_of(along: Mapping[str, Points]) -> list[dict[str, Any]]:
    """The slopes of every quantity that was measured, for both contenders."""
    found = []
    for quantity in QUANTITIES:
        if points := along.get(quantity.axis):
            row: dict[str, Any] = quantity._asdict()
            for name in (PLAIN, FTP):
                grown = series(points, name, quantity.key)
                row[name] = slopes.fit(grown)._asdict()
                row[f"{name}_last"] = slopes.last(grown)
            found.append(row)
    return found


def verdicts(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which targets FTP reaches, from `slopes_of`."""
    judged = []
    for quantity in found:
        text = f"{quantity['label']} {quantity['goal']}"
        verdict = targets.judge(
            f"{text[0].upper()}{text[1:]} (slope at most {quantity['most']:g})",
            Ratio(**quantity[FTP]),
            quantity["most"],
            at_most=True,
        )
        judged.append({"axis": quantity["axis"], **verdict})
    return judged


def of(results: Mapping[str, Any]) -> Report:
    """A table for each axis, one of the slopes, one sentence for each target."""
    shown = [
        _growth(axis, points, results) for axis, points in results["along"].items()
    ]
    slope = lambda name: lambda row: f"{row[name]['median']:.3f}"
    spread = lambda name: lambda row: "{low:.2f} to {high:.2f}".format(**row[name])
    end = lambda name: lambda row: f"{row[f'{name}_last']:.2f}"
    columns = {
        "AdamW": slope(PLAIN),
        "95 %": spread(PLAIN),
        "end": end(PLAIN),
        "FTP": slope(FTP),
        "95 % ": spread(FTP),
        "end ": end(FTP),
    }
    rows = {f"{row['label']}, {row['axis']}": row for row in results["slopes"]}
    shown.append(tables.of("Slopes", "quantity", columns, rows))
    lines = [
        targets.line(found, f"along {found['axis']}") for found in results["targets"]
    ]
    for point in results["skipped"]:
        lines.append(f"{point['x'] / 1e6:g} M parameters left out: {point['skipped']}.")
    return Report(shown, LEGEND, lines)


def _growth(axis: str, points: Points, results: Mapping[str, Any]) -> tables.Table:
    label = LABELS[results["mode"]]
    titles = {
        "params": f"Parameters, {results['leaves_of_params']} leaves",
        "leaves": f"Leaves, {results['params_of_leaves']:g} M parameters",
        "devices": f"Devices, {results['params_of_devices']:g} M parameters",
    }
    columns: dict[str, Callable[[Any], str]] = {}
    for quantity in QUANTITIES:
        if quantity.axis == axis:
            short = quantity.label.removesuffix(" time")
            columns[short] = _multiple(points, quantity.key)
            columns[f"{short}/AdamW"] = _relative(quantity.key)
            if quantity.key == "seconds":
                columns["95 %"] = _spread
    if axis == "devices":
        columns["between"] = _between_devices
        columns["time/AdamW"] = _relative("seconds")
        columns["95 %"] = _spread
    form = lambda x: f"{x / 1e6:.3g} M" if axis == "params" else f"{x}"
    rows = {form(point["x"]): point for point in points}
    return tables.of(f"{titles[axis]}, FTP {label}", axis, columns, rows)


def _multiple(points: Points, key: str) -> Callable[[Any], str]:
    first = series(points, FTP, key).y[0]
    return lambda point: f"{float(np.median(point[FTP][key])) / first:.3g}"


def _relative(key: str) -> Callable[[Any], str]:
    return lambda point: f"{_ratio(point, key)['median']:.2f}"


def _spread(point: Mapping[str, Any]) -> str:
    return interval(_ratio(point, "seconds"))


def _between_devices(point: Mapping[str, Any]) -> str:
    return f"{100 * point[FTP]['collective'] / point[FTP]['traffic']:.2g} %"


def _ratio(point: Mapping[str, Any], key: str) -> dict[str, float]:
    measured = (np.atleast_1d(point[name][key]).tolist() for name in (FTP, PLAIN))
    return ratio(*measured)._asdict()
