"""Which options do all benchmarks share?"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.cli import Formatter, whole

OUT = pathlib.Path("runs/benchmarks")
SMOKE = {"out": pathlib.Path("runs/benchmarks-smoke"), "rounds": 3}


def parser(
    job: str, description: str, epilog: str, files: str = "json, md and png"
) -> argparse.ArgumentParser:
    """A parser for `python -m <job>`; a benchmark adds its own options.

    Args:
      job: the module.
      description: shown in the help.
      epilog: examples; what the files are called is added.
      files: the endings of what it leaves.
    """
    name = job.rpartition(".")[2]
    return argparse.ArgumentParser(
        prog=f"python -m {job}",
        description=description,
        formatter_class=Formatter,
        epilog=f"""{epilog}

It leaves {name}, as {files}, in the output directory. After
Ctrl-C it reports what was finished.""",
    )


def add_shared(
    parser: argparse.ArgumentParser,
    rounds: int | None = None,
    turns: str = "",
    plot: bool = True,
) -> None:
    """Adds the options that every benchmark has.

    Args:
      parser: to add to.
      rounds: the default; `None` where nothing is timed.
      turns: what a round is, for the help.
      plot: there is one, and an option to do without.
    """
    parser.add_argument(
        "--out", type=pathlib.Path, default=OUT, help="output directory"
    )
    if rounds is not None:
        parser.add_argument("--rounds", type=whole, default=rounds, help=turns)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    if plot:
        parser.add_argument("--no-plot", action="store_true", help="numbers only")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="the smallest case, some seconds, to see that all works; other options"
        " still count",
    )


def parse(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    smoke: Mapping[str, Any],
) -> argparse.Namespace:
    """Parses, with other defaults under `--smoke`; exits on bad input.

    Args:
      parser: with the shared options.
      argv: command line; `None` takes that of the process.
      smoke: defaults that `--smoke` brings beside the shared ones.
    """
    if parser.parse_args(argv).smoke:
        parser.set_defaults(**SMOKE, **smoke)
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is not a directory")
    if args.seed < 0:
        parser.error(f"--seed: expected a number from 0 on, got {args.seed}")
    return args
