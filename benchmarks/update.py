"""Time the optimizer's update alone: AdamW, and AdamW within FTP in each mode.

One step is `tx.update` and `optax.apply_updates` on given gradients, without a model,
params and state donated. Bytes, copies and programs are the compiler's account;
times are compared round by round in one process, and with what it takes to move the
bytes at the bandwidth that a pass over one large array shows in the same round.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from benchmarks import (
    machine,
    options,
    output,
    reference,
    update_plot,
    update_report,
    update_rounds,
    update_summary,
)
from benchmarks.modes import EXPLICIT, MODES, PLAIN
from benchmarks.trees import TREES
from experiments.cli import progress, refuse_repeats, whole

JOB = "benchmarks.update"
STANDARD_TREES = ["vit-b", "leaves-400"]
STANDARD_MODES = [EXPLICIT, "int8", "implicit"]
EXAMPLES = """examples:
  python -m benchmarks.update
  python -m benchmarks.update --smoke
  python -m benchmarks.update --reference FTP   # a clone of github.com/GT-RIPL/FTP
  python -m benchmarks.update --trees vit-b --modes explicit --rounds 50"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses and checks the command line; exits on bad input."""
    parser = options.parser(JOB, str(__doc__), EXAMPLES)
    parser.add_argument(
        "--trees",
        nargs="+",
        choices=list(TREES),
        default=STANDARD_TREES,
        help="whose update",
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=list(MODES),
        default=STANDARD_MODES,
        help="of FTP; AdamW, which the ratios refer to, always takes part",
    )
    parser.add_argument(
        "--reference",
        type=pathlib.Path,
        metavar="CLONE",
        help=f"clone of {reference.SOURCE}, whose step then takes part; it needs torch"
        " (default: left out)",
    )
    parser.add_argument(
        "--compile-rounds",
        type=whole,
        default=2,
        help="how often each update is compiled",
    )
    turns = "how often every optimizer has its turn, on each tree"
    options.add_shared(parser, 10, turns)
    smoke = {"trees": ["tiny"], "compile_rounds": 1}
    args = options.parse(parser, argv, smoke)
    refuse_repeats(parser, args, "trees", "modes")
    args.contenders = [PLAIN, *(name for name in MODES if name in args.modes)]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, 2 if the clone cannot be used, 130 after Ctrl-C.
    """
    args = parse(argv)
    console, status = Console(), 0
    results: dict[str, Any] = {
        "job": JOB,
        "machine": machine.describe(),
        "trees": {},
        "targets": [],
    }
    try:
        published = None if args.reference is None else reference.load(args.reference)
    except reference.CloneError as error:
        print(f"{JOB}: --reference: {error}", file=sys.stderr)
        return 2
    if published is not None:
        results["torch"] = reference.describe()
    turns = len(args.contenders) * (1 + args.rounds + args.compile_rounds)
    turns += args.rounds * (1 + (published is not None))
    try:
        with progress(console, turns * len(args.trees)) as advance:
            for name in args.trees:
                update_rounds.compare(args, name, published, results["trees"], advance)
    except KeyboardInterrupt:
        status = 130
        console.print("Interrupted.")
    results["trees"] = {n: r for n, r in results["trees"].items() if r["rounds"]}
    if not results["trees"]:
        console.print("No round was finished: nothing to report.")
        return status
    present(args, results, console)
    return status


def present(
    args: argparse.Namespace, results: dict[str, Any], console: Console
) -> None:
    """Prints and writes what has been measured."""
    results["targets"] = update_summary.verdicts(results["trees"])
    results["machine"]["load_at_end"] = machine.load()
    told = update_report.of(results)
    draw = None if args.no_plot else update_plot.save
    output.present(results, told, args.out, console, draw)


if __name__ == "__main__":
    sys.exit(main())
