"""Time the optimizer's update alone: AdamW, and AdamW within FTP in each mode.

One step is `tx.update` and `optax.apply_updates` on given gradients, without a model,
params and state donated. Bytes, copies and programs are the compiler's account;
times are compared round by round in one process, and with what it takes to move the
bytes at the bandwidth that a pass over one large array shows in the same round.

Run it so:
  python -m benchmarks.update
  python -m benchmarks.update --smoke
  python -m benchmarks.update --reference FTP   # a clone of github.com/GT-RIPL/FTP
  python -m benchmarks.update --trees vit-b --modes explicit --rounds 50
"""

import argparse
import gc
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contenders, reference, show
from benchmarks.command import Option, Results, parse, run
from benchmarks.contenders import EXPLICIT, MODES, PLAIN, TREES, update_of
from benchmarks.cost import Cost
from benchmarks.measure import Block, Step, between, compiling, interleaved
from benchmarks.show import Bars, Target

COPYING, PUBLISHED = "copying", "published"
COPIED_BYTES = 2**28  # far beyond any cache
WARM_UP = 3
LABELS = {PLAIN: "AdamW", PUBLISHED: "published (PyTorch)"}
LABELS |= {name: f"FTP {mode.label}" for name, mode in MODES.items()}
OPTIONS = {
    "trees": Option(["vit-b", "leaves-400"], "whose update", TREES),
    "modes": Option(
        [EXPLICIT, "int8", "implicit"], "of FTP; AdamW always takes part", MODES
    ),
    "reference": Option(
        None, f"clone of {reference.SOURCE}, whose step then takes part; needs torch"
    ),
    "rounds": Option(10, "how often every optimizer has its turn, on each tree"),
    "compile_rounds": Option(2, "how often each update is compiled"),
}
SMOKE = {"trees": ["tiny"], "rounds": 3, "compile_rounds": 1}
FASTER = "FTP is at least twice as fast as the published PyTorch step"
TARGETS = (
    Target("FTP moves at most 1.8 times the bytes of AdamW", EXPLICIT, "traffic", 1.8),
    Target("FTP copies no parameter-sized array", EXPLICIT, "copies", 0),
    Target("FTP compiles once", EXPLICIT, "programs", 1),
    Target("FTP takes at most 2.2 times as long as AdamW", EXPLICIT, "time", 2.2),
    Target("FTP compiles in at most twice AdamW's time", EXPLICIT, "compile", 2.0),
    Target(FASTER, EXPLICIT, PUBLISHED, 2.0, at_most=False),
)
COUNTED = {"passes": ".2f", "traffic": ".2f", "copies": "", "state": ".2f"}
COUNTED |= {"programs": ""}
MEASURED = {"time": ".2f", "of limit": ".2f", "compile": ".2f"}
LEGEND = (
    "By the compiler's account: passes: bytes read and written, in copies of the"
    " parameters; traffic: the same as a multiple of AdamW's; copies: operations that"
    " only copy an array of a kernel's size; state: kept between steps, in copies of"
    " the parameters; programs: compilations over all steps. Measured: time of a step,"
    " and compile, from tracing on, as multiples of AdamW's with 95 % intervals; of"
    " limit: time as a multiple of that of moving the bytes at the memory's bandwidth"
    " (below 1 where a tree fits into caches)."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison; returns the exit status, 2 if the clone cannot be used."""
    args = parse(argv, "update", __doc__, OPTIONS, SMOKE)
    turns = 1 + len(args.modes) + args.rounds + args.compile_rounds
    return run(args, measure, turns * len(args.trees), conclude, draw)


def measure(args: argparse.Namespace, results: Results) -> Iterator[str]:
    """Measures all optimizers on one tree after the other."""
    results["trees"] = {}
    published = args.reference and reference.load(args.reference)
    if published:
        results["torch"] = reference.described()
    for name in args.trees:
        yield from measure_tree(args, name, published, results["trees"])


def measure_tree(
    args: argparse.Namespace, name: str, published: Any, results: dict[str, Any]
) -> Iterator[str]:
    """Measures all on one tree; notes each round as soon as it is done."""
    tree, shapes = TREES[name], TREES[name].shapes()
    params = contenders.drawn(shapes, args.seed, 0.02)
    grads = contenders.drawn(shapes, args.seed + 1, 1e-3)
    updates: dict[str, Step] = {}
    for who in [PLAIN, *(mode for mode in MODES if mode in args.modes)]:
        yield f"{name}: compiling {who}"
        updates[who] = update_step(who, jax.tree.map(jnp.array, params), grads)
    array = jnp.zeros((2**20 if name == "tiny" else COPIED_BYTES) // 4, jnp.float32)
    copying = Step(lambda array, state: (array + 1.0, state), array, (), [])
    blocks: dict[str, Block] = {**updates, COPYING: copying}
    if published:
        blocks[PUBLISHED] = reference.published(published, params, grads)
    for block in blocks.values():
        block(WARM_UP)
    result: dict[str, Any] = {
        "num_params": contenders.size(shapes),
        "leaves": len(jax.tree.leaves(shapes)),
        "copied_bytes": copying.cost.traffic,
        "costs": {who: update.cost._asdict() for who, update in updates.items()},
        "rounds": [],
        "compile_rounds": [],
    }
    taken = {who: update.shapes for who, update in updates.items()}
    steps = dict.fromkeys(blocks, tree.steps)
    steps |= {COPYING: 2, PUBLISHED: max(1, tree.steps // 4)}  # it is slow
    for seconds in interleaved(blocks, args.rounds, steps, args.seed):
        result["rounds"].append(seconds)
        result["programs"] = {who: update.programs for who, update in updates.items()}
        results[name] = result
        yield f"{name}: round {len(result['rounds'])}"
    # Their memory is given back before the compiler needs some.
    del updates, blocks, copying, array, params, grads
    gc.collect()
    anew = {w: compiling(update_of(contenders.optimizer(w)), taken[w]) for w in taken}
    for seconds in interleaved(anew, args.compile_rounds, 1, args.seed):
        result["compile_rounds"].append(seconds)
        yield f"{name}: compiled anew"


def update_step(name: str, params: contenders.Params, grads: Any) -> Step:
    """An optimizer's update alone; it takes the params over: they are donated."""
    tx = contenders.optimizer(name)
    return Step(update_of(tx), params, tx.init(params), [grads])


def rows_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By contender the columns of the tables, of what was measured on one tree.

    `time` and `compile` are ratios to plain AdamW, `published` of the published step to
    this one; `None` where nothing was measured.
    """
    rounds, costs, rows = result["rounds"], result["costs"], {}
    for who, cost in costs.items():
        limit = cost["traffic"] / result["copied_bytes"]
        rows[who] = {
            **Cost(**cost).beside(Cost(**costs[PLAIN])),
            "programs": result["programs"][who],
            "time": between(rounds, who, PLAIN),
            "of limit": between(rounds, who, COPYING)["median"] / limit,
            "compile": between(result["compile_rounds"], who, PLAIN),
            PUBLISHED: between(rounds, PUBLISHED, who),
        }
    return rows


def conclude(results: Results) -> show.Report | None:
    """Two tables for each tree, and one sentence for each target and tree."""
    tables, targets = [], []
    for name, result in results["trees"].items():
        label = TREES[name].label
        result["contenders"] = rows = rows_of(result)
        targets += show.verdicts(TARGETS, rows, label)
        millions, rounds = result["num_params"] / 1e6, result["rounds"]
        title = f"{label}, {millions:.1f} M parameters in {result['leaves']} leaves"
        rows = {LABELS[who]: row for who, row in rows.items()}
        tables.append(show.table(f"{title}: counted", "optimizer", COUNTED, rows))
        seconds = np.median([r[COPYING] for r in rounds])
        speed = f"{result['copied_bytes'] / seconds / 1e9:.1f} GB/s"
        title = f"{label}: measured in {len(rounds)} rounds, memory at {speed}"
        if time := between(rounds, PUBLISHED, PLAIN):
            rows[LABELS[PUBLISHED]] = {"time": time}
        tables.append(show.table(title, "optimizer", MEASURED, rows))
    left_out = (
        "The published PyTorch step was not measured: git clone"
        f" {reference.SOURCE}, then give --reference FTP."
    )
    notes = [] if "torch" in results else [left_out]
    return show.Report(tables, LEGEND, targets, notes) if tables else None


def draw(results: Results, path: pathlib.Path) -> None:
    """Draws bytes, time and compile time of each optimizer, a row for each tree."""
    grid = []
    for name, result in results["trees"].items():
        rows = {LABELS[who]: row for who, row in result["contenders"].items()}
        below = ""
        if time := between(result["rounds"], PUBLISHED, PLAIN):  # dwarfs the others
            below = f"published: {time['median']:.1f} ({show.interval(time)})"
        moved = Bars(f"{TREES[name].label}: bytes moved", rows, "traffic")
        timed = Bars("time of an update", rows, "time", below)
        grid.append([moved, timed, Bars("time to compile", rows, "compile")])
    note = "AdamW = 1. Lines: 95 % interval of the median."
    show.save_bars(grid, note, results["machine"], path)


if __name__ == "__main__":
    sys.exit(main())
