"""From seconds per round to ratios with intervals, and to the targets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import targets
from benchmarks.contenders import METHODS, PLAIN
from benchmarks.cost import Cost
from benchmarks.ratios import ratio

TARGET_BATCH = 32


class Target(NamedTuple):
    """A bound on the time of one method as a multiple of another's."""

    method: str
    other: str
    bound: float
    at_most: bool


TARGETS = (
    Target("ftp", PLAIN, 1.03, at_most=True),
    Target("ftp", "l2-sp", 1.03, at_most=True),
    Target("tpgm", "ftp", 1.35, at_most=False),
)


def summarise(
    rounds: Sequence[Mapping[str, float]],
    costs: Mapping[str, Cost],
    batch_size: int,
) -> dict[str, dict[str, Any]]:
    """What one model's rounds say of each method.

    Args:
      rounds: seconds per step by method, one mapping per finished round.
      costs: of each method's step.
      batch_size: in images.

    Returns:
      By method: `images_per_second` (median), `time` (a `Ratio` to plain fine-tuning),
      `state` and `extra_state` (in copies of the params; the latter beyond plain),
      `memory`, `traffic`, `flops` (ratios to plain), `copies` (of kernels, per step),
      and `cost`, all of this as it was measured.
    """
    plain = costs[PLAIN]
    seconds = {name: [r[name] for r in rounds] for name in costs}
    return {
        name: {
            "images_per_second": batch_size / float(np.median(seconds[name])),
            "time": ratio(seconds[name], seconds[PLAIN])._asdict(),
            "state": cost.state / cost.params,
            "extra_state": (cost.state - plain.state) / cost.params,
            "memory": cost.memory / plain.memory,
            "traffic": cost.traffic / plain.traffic,
            "flops": cost.flops / plain.flops,
            "copies": cost.copies,
            "cost": cost._asdict(),
        }
        for name, cost in costs.items()
    }


def verdicts(
    rounds: Mapping[str, Sequence[Mapping[str, float]]], batch_size: int
) -> list[dict[str, Any]]:
    """Which targets are reached, by model.

    Args:
      rounds: by model, as in `summarise`.
      batch_size: in images; the targets are set for 32, and empty for any other.
    """
    found = []
    for target in TARGETS if batch_size == TARGET_BATCH else ():
        for model, of_model in rounds.items():
            if not {target.method, target.other} <= set(of_model[0]):
                continue
            measured = ratio(
                [r[target.method] for r in of_model],
                [r[target.other] for r in of_model],
            )
            verdict = targets.judge(
                in_words(target), measured, target.bound, target.at_most
            )
            found.append({"model": model, **verdict})
    return found


def in_words(target: Target) -> str:
    """Such as `FTP takes at most 1.03 times as long as AdamW`."""
    least = "at most" if target.at_most else "at least"
    return (
        f"{METHODS[target.method].label} takes {least} {target.bound:g} times as long"
        f" as {METHODS[target.other].label}"
    )
