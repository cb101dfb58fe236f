"""Compare the speed and memory of ways to fine-tune, on the same models and batches.

Plain AdamW, L2-SP, MARS-PGM, SPD, FTP and TPGM train in turn, a few steps at a time in
an order drawn anew for each round, so that a noisy machine hurts all alike. Each
round gives the time of every method as a multiple of plain AdamW's; reported are the
medians over rounds. Memory, traffic and floating-point operations are the compiler's
own count and do not depend on the machine's mood.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks import (
    bar_plot,
    command_line,
    cost,
    machine,
    models,
    output,
    report,
    summary,
)
from benchmarks.contenders import METHODS, Params
from benchmarks.cost import Cost
from benchmarks.models import MODELS, Model
from benchmarks.timing import Pair, Training, interleaved
from experiments.cli import Advance, progress
from experiments.models.weights import WeightsError

JOB = "benchmarks.methods"
BATCHES = 4  # different pairs of batches, taken in turn
WARM_UP = 2  # steps of each training before its first block


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, 2 if the weights do not fit, 130 after Ctrl-C.
    """
    args = command_line.parse(argv, JOB, str(__doc__))
    console, status = Console(), 0
    results: dict[str, Any] = {
        "job": JOB,
        "machine": machine.describe(),
        "models": {},
        "targets": [],
    }
    blocks = args.rounds * len(args.methods)
    total = sum(blocks * MODELS[name].steps for name in args.models)
    try:
        with progress(console, total) as advance:
            for name in args.models:
                compare(args, name, results["models"], advance)
    except WeightsError as error:
        print(f"{JOB}: --weights: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        status = 130
        console.print("Interrupted.")
    results["models"] = {n: r for n, r in results["models"].items() if r["rounds"]}
    if not results["models"]:
        console.print("No round was finished: nothing to report.")
        return status
    present(args, results, console)
    return status


def compare(
    args: argparse.Namespace, name: str, results: dict[str, Any], advance: Advance
) -> None:
    """Measures all methods on one model; notes each round as soon as it is finished."""
    model = MODELS[name]
    params = models.init_params(model, args.seed, args.weights)
    batches = make_batches(model, args.batch_size, args.seed)
    trainings, costs = {}, {}
    for method in args.methods:
        advance(f"{name}: compiling {method}", 0)
        trainings[method], costs[method] = prepare(model, method, params, batches)
        trainings[method].run(WARM_UP)
    result: dict[str, Any] = {
        "num_params": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "side": model.side,
        "batch_size": args.batch_size,
        "weights": "given" if args.weights and name == "resnet" else "random",
        "steps_per_block": model.steps,
        "rounds": [],
    }
    results[name] = result
    show = lambda method, steps: advance(f"{name}: {method}", steps)
    for seconds in interleaved(trainings, args.rounds, model.steps, args.seed, show):
        result["rounds"].append(seconds)
        result["methods"] = summary.summarise(result["rounds"], costs, args.batch_size)


def make_batches(model: Model, batch_size: int, seed: int) -> list[Pair]:
    """Random images and labels, the same for every method: what they show is no matter.

    Args:
      model: says how large the images are.
      batch_size: in images.
      seed: of the draw.
    """

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        for_images, for_labels = jax.random.split(key)
        shape = (batch_size, model.side, model.side, 3)
        labels = jax.random.randint(for_labels, (batch_size,), 0, models.CLASSES)
        return jax.random.randint(for_images, shape, 0, 256, jnp.uint8), labels

    keys = jax.random.split(jax.random.key(seed), (BATCHES, 2))
    return [(draw(to_train), draw(held_out)) for to_train, held_out in keys]


def prepare(
    model: Model, method: str, params: Params, batches: Sequence[Pair]
) -> tuple[Training, Cost]:
    """One method's training on one model, compiled; `params` are copied."""
    init, step = METHODS[method].build(functools.partial(models.loss, model))
    params = jax.tree.map(jnp.array, params)
    state = init(params)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(params, state, *batches[0]).compile()
    found = cost.of_step(compiled, params, state)
    return Training(compiled, params, state, batches), found


def present(
    args: argparse.Namespace, results: dict[str, Any], console: Console
) -> None:
    """Prints and writes what has been measured."""
    rounds = {name: result["rounds"] for name, result in results["models"].items()}
    results["targets"] = summary.verdicts(rounds, args.batch_size)
    results["machine"]["load_at_end"] = machine.load()
    told = report.of(results)
    draw = None if args.no_plot else bar_plot.save
    output.present(results, told, args.out, console, draw)


if __name__ == "__main__":
    sys.exit(main())
