"""What a compiled step costs by the compiler's own account: no noise touches it."""

import math
import re
from typing import Any, NamedTuple

import jax

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
)


class Cost(NamedTuple):
    """Sizes are in bytes.

    Attributes:
      params: of the parameters.
      state: of all a method keeps between steps beside the parameters.
      memory: held while a step runs: arguments, results and temporaries, what is
        donated counted once.
      traffic: read and written by all operations together.
      flops: floating-point operations.
      copies: how many operations do nothing but copy an array of a kernel's size.
      temporaries: of `memory`, what is neither argument nor result.
    """

    params: int
    state: int
    memory: int
    traffic: float
    flops: float
    copies: int
    temporaries: int = 0


def of_step(compiled: jax.stages.Compiled, params: Any, state: Any) -> Cost:
    """The cost of one compiled training step with these params and this state."""
    memory: Any = compiled.memory_analysis()
    counted: Any = compiled.cost_analysis()
    sizes = {leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 1}
    return Cost(
        params=num_bytes(params),
        state=num_bytes(state),
        memory=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        traffic=counted["bytes accessed"],
        flops=counted["flops"],
        copies=count_copies(compiled.as_text() or "", sizes),
        temporaries=memory.temp_size_in_bytes,
    )


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def num_bytes_by_place(tree: Any) -> tuple[int, int]:
    """Bytes of all arrays in the memory of their devices, and in that of the host."""
    leaves = jax.tree.leaves(tree)
    near = [leaf for leaf in leaves if on_device(leaf)]
    return num_bytes(near), num_bytes(leaves) - num_bytes(near)


def count_copies(hlo: str, sizes: set[int]) -> int:
    """Counts the copies of arrays with that many elements in an HLO module's text.

    A copy inside a fusion is part of another pass over memory and does not count.
    """
    fused = set(re.findall(r"fusion\(.*calls=(%[\w.-]+)", hlo))
    count, counts_here = 0, True
    for line in hlo.splitlines():
        if line[:1] in ("%", "E"):  # the head of a computation: %name ( or ENTRY %name
            counts_here = line.split(maxsplit=1)[0] not in fused
        elif counts_here and (
            shape := re.search(r" = \w+\[([\d,]+)\]\S* copy\(", line)
        ):
            count += math.prod(map(int, shape[1].split(","))) in sizes
    return count


def collective_bytes(hlo: str) -> float:
    """Bytes of the results of all collective operations in an HLO module's text."""
    named, total = "|".join(COLLECTIVES), 0.0
    for result in re.findall(rf" = (.*?) (?:{named})(?:-start)?\(", hlo):
        for bits, shape in re.findall(r"[a-z]+(\d+)\w*\[([\d,]*)\]", result):
            total += int(bits) / 8 * math.prod(map(int, filter(None, shape.split(","))))
    return total


def on_device(leaf: jax.Array) -> bool:
    """Whether an array is in the memory of its devices, and not in that of the host."""
    kind = leaf.sharding.memory_kind
    device = next(iter(leaf.sharding.device_set))
    return kind in (None, device.default_memory().kind)
