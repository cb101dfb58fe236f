"""What a compiled step costs by the compiler's own account: no noise touches it."""

import math
import re
from typing import Any, NamedTuple

import jax


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
    """

    params: int
    state: int
    memory: int
    traffic: float
    flops: float
    copies: int


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
    )


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


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
