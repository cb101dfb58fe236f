"""The study of digits, small: what fine-tuning forgets, and what FTP keeps of it.

A network is pre-trained on handwritten digits in eight appearances (inverted,
cluttered, striped, thick, outlined, rotated, sheared, shrunk), then fine-tuned on other
images in a ninth, the clean one, in three ways from the same start: a linear probe,
AdamW, and AdamW with FTP, all at the same number of settings. Tested are clean images
(ID), the eight appearances, and nine corruptions that nobody trained on (OOD).

`configs/digits.py` has the whole study: eleven methods, six settings of each.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from rich.table import Table

from experiments import studies, sweep, train
from experiments.cli import Formatter, ending, folder_of
from experiments.configs import digits
from experiments.configs.base import Config
from experiments.configs.studies import pairs
from experiments.progress import Display
from experiments.report import __main__ as report
from experiments.report.frame import groups
from experiments.report.tables import Rows, differences, headline
from experiments.start import Shared

JOB = "experiments.quickstart"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SETTINGS = {
    "fine-tune": pairs(RATES, (None,)),
    "linear-probe": pairs((None,), (1e-2, 1e-1, 1e0, 1e1, 1e2)),
    "ftp": pairs(RATES, (1.0,)),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {JOB}", description=__doc__, formatter_class=Formatter
    )
    parser.add_argument(
        "--out", default="runs/quickstart", help="folder of the results"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        choices=range(1, 21),
        metavar="N",
        help="pre-trained networks, each fine-tuned in every way, 1 to 20",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="few steps and settings, to see that all works",
    )
    return parser.parse_args(argv)


def configs(seeds: int, out: pathlib.Path, smoke: bool) -> tuple[Config, Config]:
    """The pre-training, and the study that begins with it."""
    pretrain, study = (digits.get_config(part) for part in ("pretrain", "study"))
    study.methods = tuple(SETTINGS)
    some = slice(2 if smoke else None)
    study.settings = {method: every[some] for method, every in SETTINGS.items()}
    # Every seed tunes: the runs that are chosen from are those that are reported.
    study.tune_seeds, study.final_seeds = tuple(range(seeds)), ()
    study.run.io.weights = str(out / "pretrain-{seed}")
    for run, steps in ((pretrain, 600), (study.run, 300)):
        run.recipe.steps = 20 if smoke else steps
        run.evaluation.validate_every = run.evaluation.observe_every = steps // 6
    return pretrain, study


def quickstart(seeds: int, out: pathlib.Path, smoke: bool, display: Display) -> None:
    """Trains what is missing, and shows what came out."""
    pretrain, study = configs(seeds, out, smoke)
    shared = Shared(display.stage)
    with display.bar(seeds, unit="networks") as advance:
        for seed in range(seeds):
            pretrain.seed = seed
            advance("pre-training", 0)
            train.run(pretrain, out / f"pretrain-{seed}", display, shared)
            advance("pre-training", 1)
    sweep.sweep(study, out, display, shared)
    records = report.gather([out / studies.FILE]).records
    for group in groups(records):
        display.print(printed(headline(group)), printed(differences(group)))
    report.write(records, out / "report")
    display.print(f"{len(records)} runs; open {out / 'report' / report.FILES[0]}")


def printed(rows: Rows, columns: int = 6) -> Table:
    """The first columns of a table of the report, for a terminal."""
    cells = [[*row.items()][:columns] for row in rows]
    table = Table(*(heading for heading, _ in cells[0]))
    for row in cells:
        table.add_row(*(text for _, text in row))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit status, as `experiments.cli.launch` does."""
    args, display, began = parse(argv), Display(), time.monotonic()
    status = ending(
        JOB, lambda: quickstart(args.seeds, folder_of(args.out), args.smoke, display)
    )
    display.print(f"{time.monotonic() - began:.0f} s this time.")
    return status


if __name__ == "__main__":
    sys.exit(main())
