"""The options of the comparison of methods."""

import argparse
import pathlib
from collections.abc import Sequence

from benchmarks.contenders import METHODS, PLAIN, STANDARD
from benchmarks.models import MODELS, STANDARD_MODELS
from experiments.options import Formatter, refuse_repeats, whole

SMOKE = {
    "out": pathlib.Path("runs/benchmarks-smoke"),
    "models": ["conv"],
    "rounds": 3,
}


def parse(argv: Sequence[str] | None, job: str, description: str) -> argparse.Namespace:
    """Parses and checks the command line of `python -m <job>`; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {job}",
        description=description,
        formatter_class=Formatter,
        epilog="""examples:
  python -m benchmarks.methods
  python -m benchmarks.methods --smoke
  python -m benchmarks.methods --all --models conv --rounds 50
  python -m benchmarks.methods --methods ftp tpgm --weights resnet18_trunk.npz

It leaves methods.json, methods.md and methods.png in the output directory. After
Ctrl-C it reports the rounds that were finished.""",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/benchmarks"),
        help="output directory",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(MODELS),
        default=list(STANDARD_MODELS),
        help="what is trained",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(STANDARD),
        help=f"what to compare; {PLAIN}, which the ratios refer to, always takes part",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"compare all there are: {', '.join(METHODS)}",
    )
    parser.add_argument(
        "--rounds",
        type=whole,
        default=12,
        help="how often every method has its turn, on each model",
    )
    parser.add_argument(
        "--batch-size", type=whole, default=32, help="in images, also if held out"
    )
    parser.add_argument(
        "--weights",
        type=pathlib.Path,
        metavar="NPZ",
        help="weights of the ResNet-18 trunk, by torchvision's names, batch norm folded"
        " (default: random)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, images and orders"
    )
    parser.add_argument("--no-plot", action="store_true", help="numbers only")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="the smallest model, some seconds, to see that all works; other options"
        " still count",
    )
    if parser.parse_args(argv).smoke:
        parser.set_defaults(**SMOKE)
    args = parser.parse_args(argv)
    refuse_repeats(parser, args, "models", "methods")
    if args.weights is not None and not args.weights.is_file():
        parser.error(f"--weights: {args.weights} is not a file")
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is not a directory")
    if args.seed < 0:
        parser.error(f"--seed: expected a number from 0 on, got {args.seed}")
    # In the registry's order, whatever the order on the command line.
    chosen = METHODS if args.all else {PLAIN, *args.methods}
    args.methods = [name for name in METHODS if name in chosen]
    return args
