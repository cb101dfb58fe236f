"""Fine-tune a small network on clean digits; see what it forgets, and what FTP keeps.

A network is pre-trained on handwritten digits in eight appearances (inverted,
cluttered, striped, thick, outlined, rotated, sheared, shrunk), then fine-tuned on other
images in a ninth, the clean one, in three ways from the same start: a linear probe,
plain AdamW, and AdamW with FTP. All sweep the same learning rates for the same steps;
each method's rate is the one with the best mean accuracy on clean validation images
(the smallest of equals). Tested are clean images, the eight appearances of the
pre-training, and nine corruptions that no model has ever been trained on.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from experiments.cli import progress
from experiments.data import digits
from experiments.quickstart import command_line, evaluation, plots, presentation
from experiments.quickstart.network import Params, init_params
from experiments.quickstart.resumable import Desk, thin, train
from experiments.quickstart.run_directory import (
    RunDirectory,
    SaveTimer,
    clear,
    run_name,
)
from experiments.quickstart.training import Recipe, batch_order, drifts
from experiments.records import RecordError
from experiments.run_folder import versions

JOB = "experiments.quickstart"
INTERRUPTED = 130  # exit status of what a shell's Ctrl-C ends
PRETRAIN = "pretrain"
PRETRAIN_RATE = 2e-3
PRETRAIN_BATCH = 128
PRETRAIN_COPIES = 4  # draws of each image in each domain


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that the numbers depend on."""

    seeds: int
    learning_rates: tuple[float, ...]
    steps: int
    pretrain_steps: int
    batch_size: int
    methods: tuple[str, ...]
    kappa: float


@dataclasses.dataclass(frozen=True)
class Data:
    """The clean splits, the broad data to pre-train on, and the test domains."""

    splits: dict[str, digits.Split]
    broad: digits.Split
    tests: dict[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, 2 if the output directory is refused, 130 after Ctrl-C.
    """
    args = command_line.parse(argv, JOB, str(__doc__))
    try:
        return run(args)
    except KeyboardInterrupt:  # before the training, or in the report
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Trains what is missing and reports all there is; returns the exit status."""
    started = time.monotonic()
    settings = Settings(
        args.seeds,
        tuple(args.learning_rates),
        args.steps,
        args.pretrain_steps,
        args.batch_size,
        tuple(args.methods),
        args.kappa,
    )
    try:
        if args.fresh:
            clear(args.out, JOB, plots.PLOTS)
        made_with = versions("scipy", "scikit-learn")
        out = RunDirectory(args.out, JOB, dataclasses.asdict(settings), made_with)
    except RecordError as error:
        print(f"{JOB}: {error}", file=sys.stderr)
        return 2

    console, status, data = Console(), 0, load_data()
    try:
        train_all(settings, data, out, SaveTimer(args.save_every), console)
    except KeyboardInterrupt:
        status = INTERRUPTED
        console.print("Interrupted. The same command goes on from here.")
    presentation.present(
        out,
        settings.methods,
        settings.learning_rates,
        range(settings.seeds),
        data.tests,
        console,
        draw=not args.no_plots,
    )
    seconds = time.monotonic() - started
    out.metrics.setdefault("wall_seconds", []).append(round(seconds, 1))
    out.write()
    console.print(f"{len(out.runs)} runs in {out.path}/, {seconds:.0f} s this time.")
    return status


# ---- Data --------------------------------------------------------------------------


def load_data() -> Data:
    """Loads and renders everything; the same on every call."""
    splits = digits.load_splits()
    broad = digits.pool(splits["pretrain"], digits.KEPT, PRETRAIN_COPIES, seed=100)
    domains = (digits.CLEAN, *digits.KEPT, *digits.HELD_OUT)
    tests = {d: digits.render(splits["test"].images, d, seed=7) for d in domains}
    return Data(splits, broad, tests)


# ---- Training ----------------------------------------------------------------------


def train_all(
    settings: Settings,
    data: Data,
    out: RunDirectory,
    timer: SaveTimer,
    console: Console,
) -> None:
    """Finishes every run that `out` does not hold yet, one seed after the other."""
    sweep = [(m, lr) for m in settings.methods for lr in settings.learning_rates]
    per_seed = settings.pretrain_steps + len(sweep) * settings.steps
    done = sum(record["steps"] for record in out.runs.values())
    with progress(console, settings.seeds * per_seed, done) as advance:
        desk = Desk(out, timer, advance)
        for seed in range(settings.seeds):
            start = pretrain(settings, data, seed, desk)
            for method, rate in sweep:
                if run_name(method, seed, rate) not in out.runs:
                    fine_tune(settings, data, seed, desk, start, method, rate)


def pretrain(settings: Settings, data: Data, seed: int, desk: Desk) -> Params:
    """The pre-trained model of one seed, trained or restored; its checkpoint stays."""
    name, steps = run_name(PRETRAIN, seed), settings.pretrain_steps
    finished = name in desk.out.runs
    if finished:
        desk = desk._replace(advance=lambda *_: None)  # already counted
    recipe = Recipe("adamw", steps)
    order = batch_order(len(data.broad.labels), PRETRAIN_BATCH, steps, seed)
    began = time.monotonic()
    params, trace = train(
        desk,
        name,
        recipe,
        PRETRAIN_RATE,
        init_params(seed),
        data.broad,
        order,
        keep=True,
    )
    if not finished:
        record = {"seed": seed, "steps": steps, **measure(params, data)}
        record |= {"trace": thin(trace), "seconds": time.monotonic() - began}
        desk.out.add(name, record)
    return params


def fine_tune(
    settings: Settings,
    data: Data,
    seed: int,
    desk: Desk,
    start: Params,
    method: str,
    rate: float,
) -> None:
    """One run of the sweep. All runs of a seed see the same batches."""
    name, clean = run_name(method, seed, rate), data.splits["train"]
    recipe = Recipe(method, settings.steps, settings.kappa)
    order = batch_order(
        len(clean.labels), settings.batch_size, settings.steps, seed=1000 + seed
    )
    began = time.monotonic()
    params, trace = train(desk, name, recipe, rate, start, clean, order)
    record = {
        "method": method,
        "learning_rate": rate,
        "seed": seed,
        "steps": settings.steps,
        **measure(params, data),
        "drift": {k: float(v) for k, v in drifts(start, params).items()},
        "trace": thin(trace),
        "seconds": time.monotonic() - began,
    }
    desk.out.add(name, record)
    desk.out.discard(name)


def measure(params: Params, data: Data) -> dict[str, Any]:
    """Accuracies in [0, 1]: ID validation, test by domain, and test by group."""
    val = data.splits["val"]
    on_val = evaluation.accuracies(params, {"val": val.images}, val.labels)["val"]
    by_domain = evaluation.accuracies(params, data.tests, data.splits["test"].labels)
    return {
        "id_val": on_val,
        **evaluation.group_means(by_domain),
        "accuracy": by_domain,
    }
