"""What a finished run is told in: its figures beside those of its start, in lines."""

from collections.abc import Mapping
from typing import Any

from experiments.methods import METHODS, RADIUS_RATE
from experiments.statistics import wilson
from experiments.tasks.task import metric

FEW = 500  # images of a test set below which an accuracy has an interval
SHORT = 500  # steps below which the rate of the radii may be what holds a layer


def told(record: Mapping[str, Any]) -> list[str]:
    """The figures of a run on every domain, a line of at most 80 columns each.

    Beside them are those of its start, where these were measured, and the change. The
    accuracy on fewer than `FEW` images has the 95 % Wilson interval of drawing them,
    which no number of seeds makes smaller.
    """
    of = metric(record)
    before = (record.get("start_evaluation") or {}).get("evaluation", {})

    def number(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{of.scale * value:{sign}.1f}"

    lines = [f"{f'{of.label} in {of.unit}':<22} {'start':>7} {'now':>7} {'change':>7}"]
    for name, figures in record["evaluation"].items():
        now, start = figures[of.name], before.get(name, {}).get(of.name)
        change = None if None in (now, start) else now - start
        cells = number(start), number(now), number(change, "+")
        line = f"{name:<22.22} " + " ".join(f"{cell:>7}" for cell in cells)
        if of.name == "accuracy" and now is not None and figures["images"] < FEW:
            low, high = map(number, wilson(now, figures["images"]))
            line += f"  95 %: {low} to {high}, {figures['images']} images"
        lines.append(line)
    return [*lines, *filter(None, [reach(record)])]


def reach(record: Mapping[str, Any]) -> str:
    """What a radius can come to in a run of fewer than `SHORT` steps; "" of others.

    Adam, which trains the radii, moves them by about its rate a step at most.
    """
    method, steps = METHODS[record["method"]], record.get("steps", SHORT)
    rate = method.radius_rate
    if method.strength == RADIUS_RATE:
        rate = record["setting"]["strength"]
    if rate is None or steps >= SHORT:
        return ""
    return (
        f"{steps} steps at a radius rate of {rate:g}: a radius comes to about"
        f" {steps * rate:.2g} at most."
    )
