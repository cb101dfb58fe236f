"""Time the optimizer's update alone: AdamW, and AdamW within FTP in each mode.

One step is `tx.update` and `optax.apply_updates` on given gradients, without a model,
params and state donated. Bytes, copies and programs are the compiler's account;
times are compared round by round in one process, and with what it takes to move the
bytes at the bandwidth that a pass over one large array shows in the same round.
"""

import argparse
import functools
import sys
from collections.abc import Iterator

import jax.numpy as jnp

from benchmarks import contenders, show
from benchmarks.contenders import EXPLICIT, MODES, PUBLISHED, TREES
from benchmarks.measure import COPYING, Case, Step
from benchmarks.show import Option

COPIED = 2**26  # floats of the array that is passed over, far beyond any cache
OPTIONS = {
    "trees": Option(["vit-b", "leaves-400"], "whose update", TREES),
    "modes": Option([EXPLICIT, "int8", "implicit"], "of FTP, beside AdamW", MODES),
    "reference": Option(None, f"clone of {contenders.SOURCE}; needs torch"),
    "rounds": Option(10, "how often every optimizer has its turn, on each tree"),
    "compile_rounds": Option(2, "how often each update is compiled"),
}
SMOKE = {"trees": ["tiny"], "rounds": 3, "compile_rounds": 1}
COLUMNS = ("passes", "traffic", "copies", "state", "programs")
COLUMNS += ("time", "GB/s", "of limit", "of published", "compile")
NOT_MEASURED = (
    f"The published PyTorch step was not measured: git clone {contenders.SOURCE}, then"
    " give --reference FTP."
)


def cases(args: argparse.Namespace, notes: list[str]) -> Iterator[Case]:
    """All optimizers on one tree after another."""
    published = args.reference and contenders.load_published(args.reference)
    notes += [] if published else [NOT_MEASURED]
    for name in args.trees:
        label, shapes = TREES[name]
        params, grads, makers = contenders.updates(shapes(), args.modes)
        copied = COPIED if name != "tiny" else COPIED // 256
        makers[COPYING] = functools.partial(copying, copied)
        if published:
            makers[PUBLISHED] = functools.partial(published, params, grads)
        title = f"{label}, {contenders.size(params) / 1e6:.1f} M parameters"
        title += f", {args.rounds} rounds"
        yield Case(label, title, makers, args.rounds, args.compile_rounds)


def copying(size: int) -> Step:
    """One pass over an array of so many floats."""
    return Step(lambda x, state: (x + 1.0, state), jnp.zeros(size), (), [])


REPORT = functools.partial(show.by_group, COLUMNS, ("traffic", "time", "compile"))
main = functools.partial(show.run, "update", __doc__, OPTIONS, SMOKE, cases, REPORT)

if __name__ == "__main__":
    sys.exit(main())
