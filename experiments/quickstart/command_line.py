"""The options of the quickstart."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.cli import Formatter, real, refuse_repeats, whole
from experiments.quickstart.training import METHODS

SMOKE = {
    "out": pathlib.Path("runs/quickstart-smoke"),
    "seeds": 2,
    "learning_rates": [1e-3, 1e-2],
    "steps": 100,
    "pretrain_steps": 100,
}


def parse(argv: Sequence[str] | None, job: str, description: str) -> argparse.Namespace:
    """Parses and checks the command line of `python -m <job>`; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {job}",
        description=description,
        formatter_class=Formatter,
        epilog="""examples:
  python -m experiments.quickstart
  python -m experiments.quickstart --smoke
  python -m experiments.quickstart --methods adamw ftp --kappa 0 --out runs/kappa0
  python -m experiments.quickstart --learning-rates 1e-3 1e-2 --out runs/two-rates

The same command run again goes on from where it was stopped, also after Ctrl-C.
It leaves metrics.json, five plots and orbax checkpoints in the output directory.""",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/quickstart"),
        help="output directory",
    )
    parser.add_argument(
        "--seeds", type=whole, default=5, help="how many pre-trained models"
    )
    parser.add_argument(
        "--learning-rates",
        type=real("a number above 0", lambda x: x > 0),
        nargs="+",
        default=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
        metavar="RATE",
        help="the sweep, the same for every method",
    )
    parser.add_argument(
        "--steps", type=whole, default=300, help="of fine-tuning, per run"
    )
    parser.add_argument(
        "--pretrain-steps", type=whole, default=600, help="of pre-training, per seed"
    )
    parser.add_argument(
        "--batch-size", type=whole, default=64, help="of fine-tuning, in images"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(METHODS),
        help="what to compare",
    )
    parser.add_argument(
        "--kappa",
        type=real("a number in [0, 1]", lambda x: 0 <= x <= 1),
        default=1.0,
        help="of FTP, in [0, 1]: how strongly gradients may shrink a radius",
    )
    parser.add_argument(
        "--save-every",
        type=real("a number from 0 on", lambda x: x >= 0),
        default=2.0,
        metavar="SECONDS",
        help="least time between two checkpoints of a run in progress",
    )
    parser.add_argument("--no-plots", action="store_true", help="numbers only")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="remove what an earlier start left in the output directory",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few seconds' worth, to see that all works; other options still count",
    )
    if parser.parse_args(argv).smoke:
        parser.set_defaults(**SMOKE)
    args = parser.parse_args(argv)
    refuse_repeats(parser, args, "learning_rates", "methods")
    return args
