"""Compare the speed and memory of ways to fine-tune, on the same models and batches.

Plain AdamW, L2-SP, MARS-PGM, SPD, FTP and TPGM train in turn, a few steps at a time in
an order drawn anew for each round, so that a noisy machine hurts all alike. Each
round gives the time of every method as a multiple of plain AdamW's; reported are the
medians over rounds. Memory, traffic and floating-point operations are the compiler's
own count and do not depend on the machine's mood.

Run it so:
  python -m benchmarks.methods
  python -m benchmarks.methods --smoke
  python -m benchmarks.methods --all --models conv --rounds 50
  python -m benchmarks.methods --methods ftp tpgm --weights resnet18.safetensors
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contenders, show
from benchmarks.command import Option, Results, StoppedError, parse, run
from benchmarks.contenders import CLASSES, METHODS, MODELS, PLAIN
from benchmarks.measure import Step, between, interleaved
from benchmarks.show import Bars, Target
from experiments.models.weights import WeightsError

BATCHES = 4  # different pairs of batches, taken in turn
WARM_UP = 2  # steps of each training before its first block
TARGET_BATCH = 32
STANDARD = [PLAIN, "l2-sp", "mars-pgm", "spd", "ftp", "tpgm"]
OPTIONS = {
    "models": Option(["conv", "resnet", "vit"], "what is trained", MODELS),
    "methods": Option(STANDARD, "what to compare; plain always takes part", METHODS),
    "all": Option(False, "compare all methods there are"),
    "batch_size": Option(32, "in images, also if held out"),
    "weights": Option(None, "file of ResNet-18's weights that the experiments read"),
    "rounds": Option(12, "how often every method has its turn, on each model"),
}
SMOKE = {"models": ["conv"], "rounds": 3}
LONGER = "TPGM takes at least 1.35 times as long as FTP"
TARGETS = (
    Target("FTP takes at most 1.03 times as long as AdamW", "ftp", "time", 1.03),
    Target("FTP takes at most 1.03 times as long as L2-SP", "ftp", "of l2-sp", 1.03),
    Target(LONGER, "tpgm", "of ftp", 1.35, at_most=False),
)
COLUMNS = {"images/s": ".1f", "time": ".3f", "state": ".2f", "memory": ".2f"}
COLUMNS |= {"traffic": ".2f", "FLOPs": ".2f", "copies": ""}
LEGEND = (
    "images/s: median. time: median over rounds, with its 95 % interval; memory: held"
    " while a step runs; traffic: bytes read and written, by the compiler's count; they"
    " and FLOPs are multiples of AdamW's. state: what is kept between steps beside the"
    " parameters, in copies of them. copies: operations of a step that only copy an"
    " array of a kernel's size."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison; returns the exit status, 2 if the weights do not fit."""
    args = parse(argv, "methods", __doc__, OPTIONS, SMOKE)
    chosen = METHODS if args.all else {PLAIN, *args.methods}
    args.methods = [name for name in METHODS if name in chosen]
    total = len(args.models) * (len(args.methods) + args.rounds)
    return run(args, measure, total, conclude, draw)


def measure(args: argparse.Namespace, results: Results) -> Iterator[str]:
    """Measures all methods on one model after the other; notes each round when done."""
    results["models"] = {}
    for name in args.models:
        model = MODELS[name]
        weights = args.weights if name == "resnet" else None
        try:
            params, logits = contenders.functional(model.make, args.seed, weights)
        except (WeightsError, OSError) as error:
            raise StoppedError(f"--weights: {error}") from error
        batches = make_batches(model.side, args.batch_size, args.seed)
        loss, steps = contenders.loss_of(logits), {}
        for method in args.methods:
            yield f"{name}: compiling {method}"
            init, step = contenders.training(METHODS[method], loss)
            own = jax.tree.map(jnp.array, params)
            steps[method] = Step(step, own, init(own), *batches)
            steps[method](WARM_UP)
        plain = steps[PLAIN].cost
        result: dict[str, Any] = {
            "num_params": contenders.size(params),
            "weights": "given" if weights else "random",
            "methods": {who: s.cost.beside(plain) for who, s in steps.items()},
            "costs": {who: s.cost._asdict() for who, s in steps.items()},
            "rounds": [],
        }
        for seconds in interleaved(steps, args.rounds, model.steps, args.seed):
            result["rounds"].append(seconds)
            results["models"][name] = result
            yield f"{name}: round {len(result['rounds'])}"


def make_batches(side: int, batch_size: int, seed: int) -> list[tuple[Any, Any]]:
    """Pairs of random images and labels, to train on and held out, for every method."""
    rng = np.random.default_rng(seed)

    def draw() -> contenders.Batch:
        images = rng.integers(0, 256, (batch_size, side, side, 3), np.uint8)
        return jnp.array(images), jnp.array(rng.integers(0, CLASSES, batch_size))

    return [(draw(), draw()) for _ in range(BATCHES)]


def conclude(results: Results) -> show.Report | None:
    """One table for each model, and one sentence for each target and model."""
    tables, targets = [], []
    batch = results["options"]["batch_size"]
    for name, result in results["models"].items():
        rounds, model = result["rounds"], MODELS[name]
        for who, row in result["methods"].items():
            row["images/s"] = batch / float(np.median([r[who] for r in rounds]))
            row["time"] = between(rounds, who, PLAIN)
            row |= {f"of {x}": between(rounds, who, x) for x in ("l2-sp", "ftp")}
        if batch == TARGET_BATCH:
            targets += show.verdicts(TARGETS, result["methods"], model.label)
        title = (
            f"{model.label}, {result['num_params'] / 1e6:.2f} M parameters,"
            f" {model.side} px, batch {batch}, {len(rounds)} rounds"
        )
        rows = show.named(result["methods"], METHODS)
        tables.append(show.table(title, "method", COLUMNS, rows))
    notes = [] if targets else [f"The targets are set for batch {TARGET_BATCH}."]
    return show.Report(tables, LEGEND, targets, notes) if tables else None


def draw(results: Results, path: pathlib.Path) -> None:
    """Draws time by model, with intervals, and the memory that the methods keep."""
    panels, rows = [], {}
    for name, result in results["models"].items():
        rows, label = show.named(result["methods"], METHODS), MODELS[name].label
        panels.append(Bars(label, rows, "time", "Time per step (AdamW = 1)"))
    panels.append(Bars("State", rows, "state", "Copies of the parameters"))
    batch = results["options"]["batch_size"]
    note = f"Batch {batch}. Lines: 95 % interval of the median."
    show.save_bars([panels], note, results["machine"], path)


if __name__ == "__main__":
    sys.exit(main())
