"""What a compiled step costs by the compiler's own account: no noise touches it."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

COLLECTIVES = {
    *("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter"),
    *("collective-permute", "collective-broadcast"),
}

# `%name = SHAPES opcode(OPERANDS), ...`. A tuple's shapes stand in round brackets.
INSTRUCTION = re.compile(
    r"^ *(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][a-z-]*)\((.*)", re.MULTILINE
)
SHAPE = re.compile(r"\b([a-z]+(\d*)\w*)\[([\d,]*)\]")
OPERAND = re.compile(r"%([\w.-]+)")
END_OF_OPERANDS = re.compile(r"\)(?:,|$)")  # and not of a layout such as {0:T(256)}


def of_step(compiled: jax.stages.Compiled, params: Any, state: Any) -> dict[str, float]:
    """The cost of one compiled step with these params and this state, on one device.

    Returns:
      In bytes `params`; `state`, all a method keeps between steps beside them;
      `memory`, held while a step runs: arguments, results and temporaries, what is
      donated counted once; `temporaries`, of that what is neither argument nor result;
      `traffic`, read and written by all operations together; and `between`, what
      operations between devices move. And `flops`; and `copies`, how many operations do
      nothing but copy an array of a kernel's size.
    """
    memory: Any = compiled.memory_analysis()
    counted: Any = compiled.cost_analysis()
    text = compiled.as_text() or ""
    sizes = {leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 1}
    return {
        "params": num_bytes(params),
        "state": num_bytes(state),
        "memory": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "traffic": counted["bytes accessed"],
        "between": sum(collective.bytes for collective in collectives(text)),
        "flops": counted["flops"],
        "copies": count_copies(text, sizes),
    }


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree, of each the part on its first device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def on_device(leaf: jax.Array) -> bool:
    """Whether an array is in the memory of its devices, and not in that of the host."""
    device = next(iter(leaf.sharding.device_set))
    return leaf.sharding.memory_kind in (None, device.default_memory().kind)


def count_copies(hlo: str, sizes: set[int]) -> int:
    """Counts the copies of arrays with that many elements in an HLO module's text.

    A copy inside a fusion is part of another pass over memory and does not count.
    """
    fused = set(re.findall(r"fusion\(.*calls=(%[\w.-]+)", hlo))
    count, counts_here = 0, True
    for line in hlo.splitlines():
        if line[:1] in ("%", "E"):  # the head of a computation: %name ( or ENTRY %name
            counts_here = line.split(maxsplit=1)[0] not in fused
        elif counts_here and (instruction := INSTRUCTION.match(line)):
            _, shapes, opcode, _ = instruction.groups()
            count += opcode == "copy" and _arrays_of(shapes)[0].elements in sizes
    return count


class Array(NamedTuple):
    dtype: str
    elements: int
    bytes: float


class Collective(NamedTuple):
    """One collective operation; it may move several arrays at a time."""

    kind: str
    arrays: list[Array]  # that it moves: operands or results, whichever are larger

    @property
    def bytes(self) -> float:
        return _total(self.arrays)


def collectives(hlo: str) -> list[Collective]:
    """All in an HLO module's text; what starts and ends apart counts once."""
    known: dict[str, list[Array]] = {}
    collected = []
    for name, shapes, opcode, rest in INSTRUCTION.findall(hlo):
        known[name] = results = _arrays_of(shapes)
        if (kind := opcode.removesuffix("-start")) in COLLECTIVES:
            names = OPERAND.findall(END_OF_OPERANDS.split(rest)[0])
            operands = [array for operand in names for array in known[operand]]
            # What starts a collective may return operands, results and counters.
            if kind != opcode and len(results) > len(operands):
                results = results[len(operands) : 2 * len(operands)]
            collected.append(Collective(kind, max(operands, results, key=_total)))
    return collected


def _arrays_of(shapes: str) -> list[Array]:
    arrays = []
    for dtype, bits, sides in SHAPE.findall(shapes):
        elements = math.prod(map(int, filter(None, sides.split(","))))
        bits = int(bits or 8)  # a pred has a whole byte
        arrays.append(Array(dtype, elements, elements * bits / 8))
    return arrays


def _total(arrays: Sequence[Array]) -> float:
    return sum(array.bytes for array in arrays)
