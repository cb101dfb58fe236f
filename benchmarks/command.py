"""What do all the commands share: options, progress, Ctrl-C and what they leave?"""

import argparse
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress, TimeElapsedColumn

from benchmarks import measure, show

OUT = pathlib.Path("runs/benchmarks")
SMOKE_OUT = pathlib.Path("runs/benchmarks-smoke")
INTERRUPTED = 130  # exit status of what a shell's Ctrl-C ends

Results = dict[str, Any]  # ready for JSON


class StoppedError(Exception):
    """Ends a benchmark with one line and a status; what was finished is reported."""

    def __init__(self, message: str, status: int = 2):
        super().__init__(message)
        self.status = status


class Option(NamedTuple):
    """An option; its default says of which type it is.

    Attributes:
      default: a number, which has to be above 0; a text; a list of such, different
        from each other; `False`; or `None`, for a path that is not given.
      help: what it says.
      choices: what may be chosen.
      least: how many values a list has to hold.
    """

    default: Any
    help: str
    choices: Iterable[str] | None = None
    least: int = 1


SHARED = {
    "out": Option(OUT, "output directory"),
    "no_plot": Option(False, "numbers only"),
    "smoke": Option(False, "the smallest case, some seconds; other options count"),
}


def parse(
    argv: Sequence[str] | None,
    job: str,
    description: str | None,
    options: dict[str, Option],
    smoke: Mapping[str, Any],
) -> argparse.Namespace:
    """Parses the command line of `python -m benchmarks.<job>`; exits on bad input.

    `smoke` holds the defaults that `--smoke` brings beside the output directory.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{job}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"It leaves {job}.* in the output directory, after Ctrl-C as well.",
    )
    add = parser.add_argument
    for name, option in (options | SHARED).items():
        flag = f"--{name.replace('_', '-')}"
        if option.default is False:
            add(flag, action="store_true", help=option.help)
            continue
        several = isinstance(option.default, list)
        kind = type(option.default[0] if several else option.default)
        default = " ".join(map(str, option.default)) if several else option.default
        add(
            flag,
            nargs="+" if several else None,
            type=TYPES.get(kind, kind),
            choices=option.choices and list(option.choices),
            default=option.default,
            help=option.help + f" (default: {default})" * (default is not None),
        )
    add("--seed", type=int, default=0, help="of all that is random")
    parser.set_defaults(job=job)
    if parser.parse_args(argv).smoke:
        parser.set_defaults(out=SMOKE_OUT, **smoke)
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is not a directory")
    if args.seed < 0:
        parser.error(f"--seed: expected a number from 0 on, got {args.seed}")
    for name, option in options.items():
        values = getattr(args, name)
        if isinstance(values, pathlib.Path) and not values.exists():
            parser.error(f"--{name}: {values} does not exist")
        if isinstance(values, list):
            if len(set(values)) < len(values):
                parser.error(f"--{name}: a value is given twice")
            if len(values) < option.least:
                expected = f"expected {option.least} values at least"
                parser.error(f"--{name}: {expected}, got {len(values)}")
    return args


def above_zero(kind: Callable[[str], float], name: str) -> Callable[[str], float]:
    """An argparse type: a finite number above 0."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a {name} above 0, got {text}")
        return value

    convert.__name__ = name  # argparse names it when `kind` refuses the text
    return convert


TYPES = {
    int: above_zero(int, "whole number"),
    float: above_zero(float, "number"),
    type(None): pathlib.Path,
}


def run(
    args: argparse.Namespace,
    measuring: Callable[[argparse.Namespace, Results], Iterator[str]],
    total: int,
    conclude: Callable[[Results], show.Report | None],
    draw: Callable[[Results, pathlib.Path], None] | None = None,
) -> int:
    """Measures, prints, and writes `<job>.json`, `<job>.md` and `<job>.png`.

    Args:
      args: from `parse`.
      measuring: fills in the results, and says what it is at, `total` times.
      total: how often.
      conclude: fills in what follows from them; `None` if too little was finished.
      draw: makes the plot, if there is one.

    Returns:
      The exit status: 0, that of a `StoppedError`, or 130 after Ctrl-C.
    """
    console, status = Console(), 0
    named = {k: v for k, v in vars(args).items() if not isinstance(v, pathlib.Path)}
    results: Results = {"job": args.job, "machine": measure.machine(), "options": named}
    try:
        follow(measuring(args, results), total, console)
    except StoppedError as stopped:
        status = stopped.status
        print(f"benchmarks.{args.job}: {stopped}", file=sys.stderr)
    except KeyboardInterrupt:
        status = INTERRUPTED
        console.print("Interrupted.")
    results["machine"]["load_at_end"] = measure.load()
    report = conclude(results)
    if report is None:
        console.print("Too little was finished: nothing to report.")
        return status
    results["targets"] = report.targets
    text = json.dumps(results, indent=1, allow_nan=False)
    page = show.page(report, results["machine"])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.job}.json").write_text(text + "\n", encoding="utf-8")
    (args.out / f"{args.job}.md").write_text(page, encoding="utf-8")
    console.print(Markdown(page))
    if draw and not args.no_plot:
        draw(results, args.out / f"{args.job}.png")
    console.print(f"Everything is in {args.out}/.")
    return status


def follow(running: Iterator[str], total: int, console: Console) -> None:
    """Runs to the end: under a bar on a terminal, with plain lines anywhere else."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        for i, what in enumerate(running, start=1):
            bar.update(task, description=f"{what:<30}", advance=1)
            if not console.is_terminal:
                console.print(f"{i:>5} of {total}: {what}")
