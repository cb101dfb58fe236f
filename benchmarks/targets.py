"""Which targets are reached, and how is that said?"""

from collections.abc import Mapping
from typing import Any

from benchmarks.ratios import Ratio, interval


def judge(target: str, found: Ratio, bound: float, at_most: bool) -> dict[str, Any]:
    """Whether a measured ratio keeps a bound.

    Args:
      target: in words.
      found: judged by its median, doubted by its interval.
      bound: that the ratio has to keep.
      at_most: the bound is from above.

    Returns:
      `target`, the ratio's fields, `reached`, and `clear`: all of the interval agrees.
    """
    holds = [value <= bound if at_most else value >= bound for value in found]
    return {
        "target": target,
        **found._asdict(),
        "reached": holds[0],
        "clear": all(held == holds[0] for held in holds),
    }


def line(verdict: Mapping[str, Any], where: str) -> str:
    """One sentence, such as `A takes at most 2 times as long, here: reached, 1.5.`."""
    said = "reached" if verdict["reached"] else "missed"
    doubt = "" if verdict["clear"] else ", within the noise"
    spread = interval(verdict)
    found = verdict["median"]
    measured = f"{found:.3f} ({spread})" if spread else f"{found:.4g}"
    return f"{verdict['target']}, {where}: {said}{doubt}, {measured}."
