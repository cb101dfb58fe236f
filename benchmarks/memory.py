"""Count the memory that FTP takes beside AdamW, in each mode.

What a state holds is counted array by array after a step, on the device and on the
host; the peak of a step is the compiler's account. Nothing here is timed, so a busy
machine changes nothing. Settings that the library refuses are listed with its reason.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from benchmarks import (
    cost,
    machine,
    memory_plot,
    memory_report,
    modes,
    options,
    output,
    refusals,
    trees,
)
from benchmarks.modes import MODES, PLAIN
from benchmarks.refusals import SETTINGS
from benchmarks.trees import TREES
from benchmarks.update_step import Update
from experiments.cli import Advance, progress, refuse_repeats

JOB = "benchmarks.memory"
DTYPES = ("float32", "bfloat16")  # of the params
EXAMPLES = """examples:
  python -m benchmarks.memory
  python -m benchmarks.memory --smoke
  python -m benchmarks.memory --tree leaves-400 --modes explicit int8"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses and checks the command line; exits on bad input."""
    parser = options.parser(JOB, str(__doc__), EXAMPLES)
    parser.add_argument(
        "--tree", choices=list(TREES), default="vit-b", help="whose memory"
    )
    parser.add_argument(
        "--modes", nargs="+", choices=list(MODES), default=list(MODES), help="of FTP"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=list(DTYPES),
        help="of the params",
    )
    options.add_shared(parser)
    args = options.parse(parser, argv, {"tree": "tiny", "dtypes": ["float32"]})
    refuse_repeats(parser, args, "modes", "dtypes")
    args.contenders = [PLAIN, *(name for name in MODES if name in args.modes)]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Counts, prints and writes.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, or 130 after Ctrl-C.
    """
    args = parse(argv)
    console, status = Console(), 0
    results: dict[str, Any] = {
        "job": JOB,
        "machine": machine.describe(),
        "tree": args.tree,
        "num_params": trees.size(TREES[args.tree].shapes()),
        "dtypes": {},
        "refused": {s.label: why for s in SETTINGS if (why := refusals.reason(s))},
    }
    try:
        total = len(args.dtypes) * len(args.contenders)
        with progress(console, total) as advance:
            for dtype in args.dtypes:
                measure(args, dtype, results, advance)
    except KeyboardInterrupt:
        status = 130
        console.print("Interrupted.")
    results["targets"] = memory_report.verdicts(results["dtypes"])
    told = memory_report.of(results)
    draw = None if args.no_plot else memory_plot.save
    output.present(results, told, args.out, console, draw)
    return status


def measure(
    args: argparse.Namespace, dtype: str, results: dict[str, Any], advance: Advance
) -> None:
    """Counts the bytes of every mode with params of that dtype, one after another."""
    # Exact in bfloat16, so that no mode has to refuse a dtype of its anchor.
    draw = lambda: jax.tree.map(
        lambda x: x.astype("bfloat16").astype(dtype),
        trees.drawn(TREES[args.tree].shapes(), args.seed, 0.02),
    )
    grads = draw()
    for name in args.contenders:
        # What is refused is in the list of those settings.
        if name == PLAIN or not refusals.why_not(MODES[name].arguments, grads):
            update = Update(modes.optimizer(name), draw(), grads)
            update.run(1)
            device, host = cost.num_bytes_by_place(update.carry[1])
            found = {"device": device, "host": host, **update.cost._asdict()}
            results["dtypes"].setdefault(dtype, {})[name] = found
        advance(f"{dtype}: {name}", 1)


if __name__ == "__main__":
    sys.exit(main())
