"""Show how the cost of an update grows: with parameters, with leaves, with devices.

Plain AdamW and AdamW within FTP update trees of kernels of one size, round by round
in turn. A line through the logarithms tells the growth: a slope of 1 is linear. The
devices are simulated on this one machine, so time cannot fall with their number;
what counts there is the work of each by the compiler's account.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from benchmarks import (
    machine,
    options,
    output,
    scaling_plot,
    scaling_report,
    scaling_series,
    sharded,
)
from benchmarks.modes import EXPLICIT, MODES
from experiments.cli import Advance, progress, real, refuse_repeats, whole

JOB = "benchmarks.scaling"
AXES = ("params", "leaves", "devices")
SMOKE = {
    "params": [0.01, 0.03, 0.1],
    "leaves": [4, 8, 16],
    "devices": [1, 2],
    "params_of_leaves": 0.1,
    "params_of_devices": 0.1,
    "leaves_of_params": 4,
    "compile_rounds": 1,
}
EXAMPLES = """examples:
  python -m benchmarks.scaling
  python -m benchmarks.scaling --smoke
  python -m benchmarks.scaling --along leaves --compile-rounds 5
  python -m benchmarks.scaling --mode int8 --params 1 10 100"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses and checks the command line; exits on bad input."""
    parser = options.parser(JOB, str(__doc__), EXAMPLES)
    millions = real("a number above 0", lambda value: value > 0)
    add = parser.add_argument
    add("--along", nargs="+", choices=AXES, default=list(AXES), help="which growth")
    add("--mode", choices=list(MODES), default=EXPLICIT, help="of FTP")
    add(
        "--params",
        nargs="+",
        type=millions,
        default=[1, 3, 10, 30, 100, 300],
        metavar="MILLIONS",
        help="numbers of parameters; those that the free memory does not hold are"
        " left out",
    )
    add(
        "--leaves",
        nargs="+",
        type=whole,
        default=[10, 30, 100, 300, 1000],
        help="numbers of leaves",
    )
    add(
        "--devices",
        nargs="+",
        type=whole,
        default=[1, 2, 4, 8],
        help="numbers of simulated devices",
    )
    add("--leaves-of-params", type=whole, default=24, help="along --params")
    add("--params-of-leaves", type=millions, default=10, help="along --leaves")
    add("--params-of-devices", type=millions, default=10, help="along --devices")
    add("--compile-rounds", type=whole, default=2, help="how often each is compiled")
    options.add_shared(parser, 7, "how often both have their turn, at each point")
    args = options.parse(parser, argv, SMOKE)
    refuse_repeats(parser, args, "along", *AXES)
    for axis in args.along:
        values = sorted(getattr(args, axis))
        if len(values) < 2:
            parser.error(f"--{axis}: expected two values at least, got {len(values)}")
        setattr(args, axis, values)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures all points, prints and writes.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, 1 if a process with several devices failed, 130 after Ctrl-C.
    """
    args = parse(argv)
    console, status = Console(), 0
    results: dict[str, Any] = {
        "job": JOB,
        "machine": machine.describe(),
        "mode": args.mode,
        "leaves_of_params": args.leaves_of_params,
        "params_of_leaves": args.params_of_leaves,
        "params_of_devices": args.params_of_devices,
        "along": {},
        "skipped": [],
    }
    measure = {
        "params": scaling_series.of_params,
        "leaves": scaling_series.of_leaves,
        "devices": of_devices,
    }
    try:
        total = sum(len(getattr(args, axis)) for axis in args.along)
        with progress(console, total) as advance:
            for axis in args.along:
                points = results["along"].setdefault(axis, [])
                for point in measure[axis](args, advance):
                    kept = results["skipped"] if "skipped" in point else points
                    kept.append(point)
    except sharded.ChildError as error:
        print(f"{JOB}: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
        console.print("Interrupted.")
    # A line needs two points.
    found = {axis: p for axis, p in results["along"].items() if len(p) > 1}
    results["along"] = found
    if not found:
        console.print("No two points were finished: nothing to report.")
        return status
    results["machine"]["load_at_end"] = machine.load()
    results["slopes"] = scaling_report.slopes_of(found)
    results["targets"] = scaling_report.verdicts(results["slopes"])
    told = scaling_report.of(results)
    draw = None if args.no_plot else scaling_plot.save
    output.present(results, told, args.out, console, draw)
    return status


def of_devices(args: argparse.Namespace, advance: Advance) -> Iterator[dict[str, Any]]:
    """A point for each number of devices, measured in a process of its own."""
    for devices in args.devices:
        advance(f"{devices} devices", 1)
        yield sharded.measured(
            devices,
            {
                "mode": args.mode,
                "params": args.params_of_devices * 1e6,
                "leaves": args.leaves_of_params,
                "rounds": args.rounds,
                "seed": args.seed,
            },
        )


if __name__ == "__main__":
    sys.exit(main())
