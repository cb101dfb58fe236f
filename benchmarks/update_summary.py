"""What do the rounds of `benchmarks.update` say, and which targets are reached?"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import targets
from benchmarks.cost import Cost
from benchmarks.modes import EXPLICIT, LABELS, PLAIN
from benchmarks.ratios import Ratio, exactly, ratio

COPYING = "copying"  # the pass over one array that shows the memory's bandwidth
PUBLISHED = "published"
Rounds = Sequence[Mapping[str, float]]  # seconds by contender, one for each round


class Target(NamedTuple):
    """A bound on one quantity of explicit FTP.

    Attributes:
      text: the target in words.
      column: of a row from `summarise`.
      bound: that it has to keep.
      at_most: the bound is from above.
    """

    text: str
    column: str
    bound: float
    at_most: bool = True


TARGETS = (
    Target("FTP moves at most 1.8 times the bytes of AdamW", "traffic", 1.8),
    Target("FTP copies no parameter-sized array", "copies", 0),
    Target("FTP compiles once", "compilations", 1),
    Target("FTP takes at most 2.2 times as long as AdamW", "time", 2.2),
    Target("FTP compiles in at most twice the time of AdamW", "compile", 2.0),
    Target(
        "FTP is at least twice as fast as the published PyTorch step",
        "published",
        2.0,
        at_most=False,
    ),
)


def summarise(
    costs: Mapping[str, Cost],
    compilations: Mapping[str, int],
    rounds: Rounds,
    compile_rounds: Rounds,
    copied_bytes: int,
) -> dict[str, dict[str, Any]]:
    """What has been measured on one tree, by contender.

    Args:
      costs: of each compiled update, plain AdamW's among them.
      compilations: programs that the steps of each have needed.
      rounds: seconds per step, of `COPYING` and perhaps `PUBLISHED` as well.
      compile_rounds: seconds to compile; may be empty.
      copied_bytes: that a step of `COPYING` moves.

    Returns:
      By optimizer: `passes` over the params, `traffic` (ratio to plain), `copies`,
      `state` (in copies of the params), `compilations`, and the `Ratio`s `time` and
      `compile` (to plain), `of_limit` (time to that of moving the bytes at the
      measured bandwidth) and `published` (the published step's time to this one's);
      `None` where nothing was measured.
    """
    seconds = _columns(rounds)
    to_compile = _columns(compile_rounds)
    plain = costs[PLAIN]
    found = {}
    for name, cost in costs.items():
        scale = cost.traffic / copied_bytes
        limit = [scale * s for s in seconds[COPYING]]
        found[name] = {
            "passes": cost.traffic / cost.params,
            "traffic": cost.traffic / plain.traffic,
            "copies": cost.copies,
            "state": cost.state / cost.params,
            "compilations": compilations[name],
            "time": _between(seconds, name, PLAIN),
            "of_limit": ratio(seconds[name], limit)._asdict(),
            "compile": _between(to_compile, name, PLAIN),
            "published": _between(seconds, PUBLISHED, name),
            "cost": cost._asdict(),
        }
    return found


def published_time(rounds: Rounds) -> dict[str, float] | None:
    """The published step's time as a multiple of plain AdamW's, if it took part."""
    return _between(_columns(rounds), PUBLISHED, PLAIN)


def copying_seconds(rounds: Rounds) -> float:
    """Median time of a pass over the large array."""
    return float(np.median(_columns(rounds)[COPYING]))


def verdicts(trees: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which targets are reached, by tree; those not measured are left out.

    Args:
      trees: by tree, mappings with `contenders` from `summarise`.
    """
    found = []
    for target in TARGETS:
        for tree, result in trees.items():
            value = result["contenders"].get(EXPLICIT, {}).get(target.column)
            if value is not None:
                measured = Ratio(**value) if isinstance(value, dict) else exactly(value)
                verdict = targets.judge(
                    target.text, measured, target.bound, target.at_most
                )
                found.append({"tree": tree, **verdict})
    return found


def label(name: str) -> str:
    """What a contender is called in a table."""
    if name == PUBLISHED:
        return "published (PyTorch)"
    return LABELS[name] if name == PLAIN else f"FTP {LABELS[name]}"


def _columns(rounds: Rounds) -> dict[str, list[float]]:
    names = rounds[0] if rounds else ()
    return {name: [seconds[name] for seconds in rounds] for name in names}


def _between(
    seconds: Mapping[str, list[float]], name: str, other: str
) -> dict[str, float] | None:
    if not {name, other} <= seconds.keys():
        return None
    return ratio(seconds[name], seconds[other])._asdict()
