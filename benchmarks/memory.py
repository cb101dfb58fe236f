"""Count the memory that FTP takes beside AdamW, in each mode.

What a state holds is counted array by array after some steps, on the device and on the
host; the memory of a step is the compiler's account. Nothing here is timed, so a busy
machine changes nothing. A mode that the library refuses is noted with its reason.
"""

import argparse
import functools
import sys
from collections.abc import Iterator

import jax

from benchmarks import contenders, show
from benchmarks.contenders import LABELS, MODES, TREES
from benchmarks.measure import Case
from benchmarks.show import Option

DTYPES = ["float32", "bfloat16"]
OPTIONS = {
    "tree": Option("vit-b", "whose memory", TREES),
    "modes": Option(list(MODES), "of FTP, beside AdamW", MODES),
    "dtypes": Option(DTYPES, "of the params", DTYPES),
}
SMOKE = {"tree": "tiny", "dtypes": ["float32"]}
COLUMNS = ("device", "host", "memory", "temporaries")


def cases(args: argparse.Namespace, notes: list[str]) -> Iterator[Case]:
    """All modes on params of one dtype after another."""
    label, shapes = TREES[args.tree]
    for dtype in args.dtypes:
        params, _, makers = contenders.updates(shapes(), args.modes, dtype)
        for mode in args.modes:
            if why := refused(mode, params):
                notes.append(f"{LABELS[mode]}, {dtype} params: refused. {why}")
                del makers[mode]
        size = contenders.size(params) / 1e6
        title = f"{label}, {size:.1f} M {dtype} parameters"
        yield Case(dtype, title, makers)


def refused(mode: str, params: contenders.Params) -> str:
    """Why a mode cannot be used on these params; nothing if it can."""
    try:
        jax.eval_shape(contenders.optimizer(mode).init, params)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


REPORT = functools.partial(show.by_group, COLUMNS, COLUMNS[:3])
main = functools.partial(show.run, "memory", __doc__, OPTIONS, SMOKE, cases, REPORT)

if __name__ == "__main__":
    sys.exit(main())
