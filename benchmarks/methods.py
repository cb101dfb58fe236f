"""Compare the speed and memory of ways to fine-tune, on the same models and batches.

All train in turn, a few steps at a time in an order drawn anew for each round, so that
a noisy machine hurts all alike; memory, traffic and floating-point operations are the
compiler's own count. What is compared, on what: benchmarks/README.md.
"""

import argparse
import functools
import sys
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks import contenders, show
from benchmarks.contenders import CLASSES, METHODS, MODELS
from benchmarks.measure import PLAIN, Case
from benchmarks.show import Option

BATCHES = 4  # different pairs of batches, taken in turn
STANDARD = ["l2-sp", "mars-pgm", "spd", "ftp", "tpgm"]
OPTIONS = {
    "models": Option(["conv", "resnet", "vit"], "what is trained", MODELS),
    "methods": Option(STANDARD, "what to compare; plain always takes part", METHODS),
    "batch_size": Option(32, "in images, also if held out"),
    "weights": Option(None, "file of ResNet-18's weights that the experiments read"),
    "rounds": Option(12, "how often every method has its turn, on each model"),
}
SMOKE = {"models": ["conv"], "rounds": 3}
COLUMNS = ("images/s", "time", "of L2-SP", "of FTP")
COLUMNS += ("state", "memory", "traffic", "FLOPs", "copies")


def cases(args: argparse.Namespace, notes: list[str]) -> Iterator[Case]:
    """All methods on one model after another."""
    batch = args.batch_size
    del notes
    for name in args.models:
        label, make, side = MODELS[name]
        weights = args.weights if name == "resnet" else None
        params, loss = contenders.trained(make, weights)
        batches = [
            (drawn(batch, side, 2 * i), drawn(batch, side, 2 * i + 1))
            for i in range(BATCHES)
        ]
        step, chosen = contenders.training_step, {PLAIN, *args.methods}
        makers = {
            method: functools.partial(step, method, loss, params, *batches)
            for method in METHODS
            if method in chosen
        }
        title = f"{label}, {contenders.size(params) / 1e6:.2f} M parameters, {side} px"
        title += f", batch {batch}, {args.rounds} rounds"
        yield Case(label, title, makers, args.rounds, facts={"images": batch})


def drawn(batch: int, side: int, seed: int) -> contenders.Batch:
    """Random images and labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (batch, side, side, 3), np.uint8)
    return jnp.array(images), jnp.array(rng.integers(0, CLASSES, batch))


REPORT = functools.partial(show.by_group, COLUMNS, ("time", "state"))
main = functools.partial(show.run, "methods", __doc__, OPTIONS, SMOKE, cases, REPORT)

if __name__ == "__main__":
    sys.exit(main())
