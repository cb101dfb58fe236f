"""The options of the comparison of methods."""

import argparse
import pathlib
from collections.abc import Sequence

from benchmarks import options
from benchmarks.contenders import METHODS, PLAIN, STANDARD
from benchmarks.models import MODELS, STANDARD_MODELS
from experiments.cli import refuse_repeats, whole

EXAMPLES = """examples:
  python -m benchmarks.methods
  python -m benchmarks.methods --smoke
  python -m benchmarks.methods --all --models conv --rounds 50
  python -m benchmarks.methods --methods ftp tpgm --weights resnet18.safetensors"""


def parse(argv: Sequence[str] | None, job: str, description: str) -> argparse.Namespace:
    """Parses and checks the command line of `python -m <job>`; exits on bad input."""
    parser = options.parser(job, description, EXAMPLES)
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
        "--batch-size", type=whole, default=32, help="in images, also if held out"
    )
    parser.add_argument(
        "--weights",
        type=pathlib.Path,
        metavar="FILE",
        help="weights of ResNet-18, by the names of torchvision, timm or transformers"
        " (default: random)",
    )
    turns = "how often every method has its turn, on each model"
    options.add_shared(parser, 12, turns)
    args = options.parse(parser, argv, {"models": ["conv"]})
    refuse_repeats(parser, args, "models", "methods")
    if args.weights is not None and not args.weights.is_file():
        parser.error(f"--weights: {args.weights} is not a file")
    # In the registry's order, whatever the order on the command line.
    chosen = METHODS if args.all else {PLAIN, *args.methods}
    args.methods = [name for name in METHODS if name in chosen]
    return args
