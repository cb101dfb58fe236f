"""The collectives of a compiled program, read off the text of its HLO."""

import math
import re
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
BITS = {"pred": 8, "bf16": 16}

# `%name = SHAPES opcode(OPERANDS), ...`. A tuple's shapes stand in round brackets.
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][a-z-]*)\((.*)")
SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
OPERAND = re.compile(r"%([\w.-]+)")


class Array(NamedTuple):
    dtype: str
    elements: int

    @property
    def bytes(self):
        bits = BITS.get(self.dtype) or int(re.sub(r"\D", "", self.dtype))
        return self.elements * bits // 8


class Collective(NamedTuple):
    """One collective; it may move several arrays at a time."""

    kind: str
    operands: list[Array]
    results: list[Array]

    @property
    def arrays(self):
        """What it moves: operands or results, whichever are larger."""
        return max(self.operands, self.results, key=size)

    @property
    def bytes(self):
        return size(self.arrays)


def size(arrays):
    return sum(array.bytes for array in arrays)


def arrays_of(shapes):
    return [
        Array(dtype, math.prod(map(int, filter(None, dimensions.split(",")))))
        for dtype, dimensions in SHAPE.findall(shapes)
    ]


def collectives(text):
    """Every `Collective` of the HLO in `text`, which may start and end apart."""
    known, found = {}, []
    for line in text.splitlines():
        instruction = INSTRUCTION.match(line)
        if not instruction:
            continue
        name, shapes, opcode, rest = instruction.groups()
        known[name] = arrays_of(shapes)
        kind = opcode.removesuffix("-start")
        if kind in KINDS:
            names = OPERAND.findall(rest.split(")")[0])
            operands = [array for name in names for array in known[name]]
            # What starts a collective returns its operands along with its results.
            results = known[name] if kind == opcode else known[name][len(operands) :]
            found.append(Collective(kind, operands, results))
    return found
