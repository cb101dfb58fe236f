"""How are the points measured, along parameters and along leaves?"""

import argparse
import gc
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import machine, modes, trees
from benchmarks.modes import PLAIN
from benchmarks.timing import interleaved
from benchmarks.update_step import Compiling, Update
from experiments.cli import Advance

FTP = "ftp"  # in the mode that is asked for
# Copies of the float32 params: gradients; params and state of AdamW, and of FTP;
# temporaries.
COPIES_HELD = 1 + 3 + 5 + 1
SHARE = 0.8  # of the free memory that may be taken
BLOCK = 30_000_000  # parameters updated in a block, about
MOST_STEPS = 30  # of a block
WARM_UP = 2


def of_params(args: argparse.Namespace, advance: Advance) -> Iterator[dict[str, Any]]:
    """A point for each number of parameters, of so many leaves; in `args.rounds`.

    Yields:
      `x`, and by contender `seconds` (one for each round) and `traffic` (bytes); or,
      where the memory would not do, `x` and `skipped`, the reason.
    """
    for millions in args.params:
        num_params = millions * 1e6
        needed, free = 4 * COPIES_HELD * num_params, machine.free_bytes()
        if free is not None and needed > SHARE * free:
            why = f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            advance(f"{millions:g} M parameters", 1)
            yield {"x": num_params, "skipped": why}
            continue
        shapes = trees.even(num_params, args.leaves_of_params)
        advance(f"{millions:g} M parameters", 1)
        point, _ = timed(shapes, args)
        yield {"x": trees.size(shapes), **point}


def of_leaves(args: argparse.Namespace, advance: Advance) -> Iterator[dict[str, Any]]:
    """A point for each number of leaves, of so many parameters.

    Yields:
      As `of_params`, with `compile_seconds` by contender as well.
    """
    for leaves in args.leaves:
        advance(f"{leaves} leaves", 1)
        shapes = trees.even(args.params_of_leaves * 1e6, leaves)
        point, described = timed(shapes, args)
        compiled = {
            name: Compiling(contender(name, args.mode), described[name])
            for name in described
        }
        rounds = list(interleaved(compiled, args.compile_rounds, 1, args.seed))
        for name in compiled:
            point[name]["compile_seconds"] = [seconds[name] for seconds in rounds]
        yield {"x": leaves, **point}


def timed(
    shapes: trees.Shapes, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both contenders' rounds and bytes, and the shapes that their steps take."""
    draw = lambda seed: trees.drawn(shapes, seed, 0.02)
    grads = draw(args.seed + 1)
    updates = {
        name: Update(contender(name, args.mode), draw(args.seed), grads)
        for name in (PLAIN, FTP)
    }
    steps = max(1, min(MOST_STEPS, BLOCK // trees.size(shapes)))
    for update in updates.values():
        update.run(WARM_UP)
    rounds = list(interleaved(updates, args.rounds, steps, args.seed))
    described = {name: update.shapes for name, update in updates.items()}
    point = in_columns(updates, rounds)
    del updates, grads
    gc.collect()
    return point, described


def in_columns(
    updates: Mapping[str, Update], rounds: list[dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """By contender what its rounds and its compiled step say."""
    return {
        name: {
            "seconds": [seconds[name] for seconds in rounds],
            "traffic": update.cost.traffic,
            "compilations": update.compilations,
        }
        for name, update in updates.items()
    }


def contender(name: str, mode: str) -> Any:
    """The optimizer of that name, FTP in this mode."""
    return modes.optimizer(mode if name == FTP else name)
