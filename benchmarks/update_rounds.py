"""How is one tree's update measured?"""

import argparse
import gc
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import modes, reference, trees, update_summary
from benchmarks.modes import PLAIN
from benchmarks.timing import Runs, interleaved
from benchmarks.trees import TREES
from benchmarks.update_step import Compiling, Copying, Update
from benchmarks.update_summary import COPYING, PUBLISHED
from experiments.cli import Advance

COPIED_BYTES = 2**28  # far beyond any cache
STEPS = {"vit-b": 2, "leaves-400": 40, "tiny": 3}  # of each block
WARM_UP = 3


def compare(
    args: argparse.Namespace,
    name: str,
    published: Any,
    results: dict[str, Any],
    advance: Advance,
) -> None:
    """Measures all optimizers on one tree; notes each round as soon as it is done."""
    running = lambda who, _: advance(f"{name}: {who}", 1)
    compiling = lambda who, _: advance(f"{name}: compiling {who}", 1)
    updates, others = prepare(args, name, published, compiling)
    result: dict[str, Any] = {
        "num_params": sum(x.size for x in jax.tree.leaves(updates[PLAIN].shapes[0])),
        "leaves": len(jax.tree.leaves(updates[PLAIN].shapes[0])),
        "steps_per_block": STEPS[name],
        "copied_bytes": others[COPYING].num_bytes,
        "rounds": [],
        "compile_rounds": [],
    }
    results[name] = result
    costs = {who: update.cost for who, update in updates.items()}
    shapes = {who: update.shapes for who, update in updates.items()}
    summarise = lambda compilations: update_summary.summarise(
        costs,
        compilations,
        result["rounds"],
        result["compile_rounds"],
        result["copied_bytes"],
    )
    contenders: dict[str, Runs] = {**updates, **others}
    steps = dict.fromkeys(contenders, STEPS[name])
    steps |= {COPYING: 2, PUBLISHED: max(1, STEPS[name] // 4)}  # it is slow
    compilations: dict[str, int] = {}
    for seconds in interleaved(contenders, args.rounds, steps, args.seed, running):
        result["rounds"].append(seconds)
        compilations = {who: update.compilations for who, update in updates.items()}
        result["contenders"] = summarise(compilations)
    # Their memory is given back before the compiler needs some.
    del updates, others, contenders
    gc.collect()
    compiled = {who: Compiling(modes.optimizer(who), shapes[who]) for who in shapes}
    repeat = args.compile_rounds
    for seconds in interleaved(compiled, repeat, 1, args.seed, compiling):
        result["compile_rounds"].append(seconds)
        result["contenders"] = summarise(compilations)


def prepare(
    args: argparse.Namespace, name: str, published: Any, compiling: Advance
) -> tuple[dict[str, Update], dict[str, Any]]:
    """The updates of one tree, and what else takes turns; all are warm."""
    shapes = TREES[name].shapes()
    params = trees.drawn(shapes, args.seed, 0.02)
    grads = trees.drawn(shapes, args.seed + 1, 1e-3)
    others: dict[str, Any] = {}
    if published is not None:
        others[PUBLISHED] = reference.Published(published, params, grads)
    others[COPYING] = Copying(2**20 if name == "tiny" else COPIED_BYTES)
    updates = {}
    for who in args.contenders:
        own = jax.tree.map(jnp.array, params)
        updates[who] = Update(modes.optimizer(who), own, grads)
        compiling(who, 1)
    for runs in (*updates.values(), *others.values()):
        runs.run(WARM_UP)
    return updates, others
