"""Measure what each mode of FTP gives up for the memory that it saves.

Three things. The golden trajectories of the published code, which the repository holds:
how far parameters and radii are from them at worst. A run of 20,000 noisy steps: how
far the anchor has moved, which an implicit one does by rounding. And the quickstart's
fine-tuning, from the same starts with the same batches: radii and parameters beside
those of the explicit mode, and the accuracies, which have to agree to within the noise
of the seeds.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from benchmarks import fidelity_report, machine, options, output
from benchmarks.modes import EXPLICIT, MODES
from experiments.cli import Advance, progress, real, refuse_repeats, whole
from experiments.quickstart import job as quickstart
from experiments.quickstart.network import init_params
from experiments.quickstart.training import (
    Recipe,
    batch_order,
    init_state,
    train_chunk,
)
from ftp_optax import anchor_drift, radii, torch_axes, with_ftp

JOB = "benchmarks.fidelity"
GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"
BATCH = 64
NOISY_SHAPES = {"dense/kernel": (64, 96), "conv/kernel": (3, 3, 8, 32), "bias": (96,)}
EXAMPLES = """examples:
  python -m benchmarks.fidelity
  python -m benchmarks.fidelity --smoke
  python -m benchmarks.fidelity --modes int8 implicit --seeds 10"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses and checks the command line; exits on bad input."""
    parser = options.parser(JOB, str(__doc__), EXAMPLES, "json and md")
    parser.add_argument(
        "--modes", nargs="+", choices=list(MODES), default=list(MODES), help="of FTP"
    )
    parser.add_argument("--seeds", type=whole, default=5, help="of the quickstart")
    parser.add_argument(
        "--steps", type=whole, default=300, help="of each fine-tuning of the quickstart"
    )
    parser.add_argument(
        "--pretrain-steps", type=whole, default=600, help="before each fine-tuning"
    )
    parser.add_argument(
        "--learning-rate",
        type=real("a number above 0", lambda x: x > 0),
        default=1e-2,
        help="of the quickstart's fine-tuning",
    )
    parser.add_argument(
        "--noisy-steps", type=whole, default=20_000, help="of the noisy run"
    )
    options.add_shared(parser, plot=False)
    smoke = {"seeds": 2, "steps": 50, "pretrain_steps": 50, "noisy_steps": 200}
    args = options.parse(parser, argv, smoke)
    refuse_repeats(parser, args, "modes")
    args.modes = [name for name in MODES if name in {EXPLICIT, *args.modes}]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and writes.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, or 130 after Ctrl-C.
    """
    args = parse(argv)
    console, status = Console(), 0
    results: dict[str, Any] = {
        "job": JOB,
        "machine": machine.describe(),
        **{name: getattr(args, name) for name in ("steps", "learning_rate")},
        "noisy_steps": args.noisy_steps,
        "golden": {},
        "drift": {},
        "quickstart": {},
    }
    try:
        total = (2 + args.seeds) * len(args.modes) + args.seeds
        with progress(console, total) as advance:
            for name in args.modes:
                arguments = MODES[name].arguments
                results["golden"][name] = golden(arguments)
                advance(f"golden: {name}", 1)
                results["drift"][name] = noisy(arguments, args.noisy_steps, args.seed)
                advance(f"noisy: {name}", 1)
            fine_tuned(args, results["quickstart"], advance)
    except KeyboardInterrupt:
        status = 130
        console.print("Interrupted.")
    told = fidelity_report.of(results)
    output.present(results, told, args.out, console)
    return status


# ---- The published trajectories ----------------------------------------------------


def golden(arguments: Mapping[str, Any]) -> dict[str, float]:
    """The largest differences from the recorded parameters and radii at any step."""
    worst = {"params": 0.0, "radii": 0.0}
    for path in sorted(GOLDEN.glob("*.npz")):
        with np.load(path) as file:
            recorded = {key: file[key] for key in file}
        found, found_radii = replay(recorded, arguments)
        for name, values in found.items():
            far = np.abs(values - recorded[f"param/{name}"]).max()
            worst["params"] = max(worst["params"], float(far))
        names = list(recorded["radius_names"])
        for name, values in found_radii.items():
            far = np.abs(values - recorded["radius"][:, names.index(name)]).max()
            worst["radii"] = max(worst["radii"], float(far))
    return worst


def replay(recorded: Mapping[str, np.ndarray], arguments: Mapping[str, Any]) -> Any:
    """Parameters and radii by name after each step on the recorded gradients."""
    meta = json.loads(str(recorded["meta"]))
    decay, rate = meta["weight_decay"], meta["lr"]
    optimizer = optax.adamw(rate, weight_decay=decay)
    if meta["optimizer"] != "adamw":
        sgd = optax.sgd(rate, meta["momentum"], meta["nesterov"])
        optimizer = optax.chain(optax.add_decayed_weights(decay), sgd)
    tx = with_ftp(
        optimizer,
        meta["kappa"],
        exclude=[f"^{name}$" for name in meta["exclude"]],
        axes=torch_axes,
        **arguments,
    )

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, radii(state, params, axes=torch_axes)

    fields = {kind: of_kind(recorded, kind) for kind in ("init", "grad")}
    params: Any = jax.tree.map(jnp.asarray, fields["init"])
    state, seen, seen_radii = tx.init(params), [], []
    step = jax.jit(step)
    for t in range(meta["steps"]):
        grads = {name: values[t] for name, values in fields["grad"].items()}
        params, state, found = step(params, state, grads)
        seen.append(params)
        seen_radii.append(found)
    stack = lambda *values: np.stack(values)
    return jax.tree.map(stack, *seen), jax.tree.map(stack, *seen_radii)


def of_kind(recorded: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The arrays called `<kind>/<name>`, by name."""
    head = f"{kind}/"
    return {k.removeprefix(head): v for k, v in recorded.items() if k.startswith(head)}


# ---- A long run under noise --------------------------------------------------------


def noisy(arguments: Mapping[str, Any], steps: int, seed: int) -> float:
    """The largest change of a weight of the anchor after so many noisy steps.

    Weights of standard deviation 0.1; gradients that pull one way for 3,000 steps and
    back for 2,000, under three times as much noise.
    """
    draw = lambda key, scale: {
        name: scale * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(NOISY_SHAPES.items())
    }
    key = jax.random.key(seed)
    start, pull = draw(key, 0.1), draw(jax.random.fold_in(key, 1), 1.0)
    tx = with_ftp(optax.adamw(1e-4), **arguments)

    def step(carry: Any, i: jax.Array) -> Any:
        params, state = carry
        sign = jnp.where(i % 5000 < 3000, 1.0, -1.0)
        noise = draw(jax.random.fold_in(key, 100 + i), 3.0)
        grads = jax.tree.map(lambda p, e: sign * p + e, pull, noise)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    # A loop of single steps: in a scan an array cannot change its memory.
    jitted = jax.jit(
        lambda carry, first: jax.lax.scan(
            step, carry, first + jnp.arange(min(steps, 1000))
        )[0]
    )
    carry: Any = jax.tree.map(jnp.array, start), tx.init(start)
    for first in range(0, steps, 1000):
        carry = jitted(carry, first)
    drift = anchor_drift(carry[1], carry[0], start)
    return max(map(float, drift.values()))


# ---- The quickstart ----------------------------------------------------------------


def fine_tuned(
    args: argparse.Namespace, results: dict[str, list], advance: Advance
) -> None:
    """Fine-tunes in every mode from the same starts; notes each run when it is done."""
    data = quickstart.load_data()
    clean = data.splits["train"]
    for seed in range(args.seeds):
        recipe = Recipe("adamw", args.pretrain_steps)
        order = batch_order(
            len(data.broad.labels), quickstart.PRETRAIN_BATCH, recipe.steps, seed
        )
        state = init_state(recipe, quickstart.PRETRAIN_RATE, init_params(seed))
        rate = quickstart.PRETRAIN_RATE
        (start, _), _ = train_chunk(recipe, rate, data.broad, state, order)
        advance(f"seed {seed}: pre-training", 1)
        order = batch_order(len(clean.labels), BATCH, args.steps, 1000 + seed)
        beside: Any = None
        for name in args.modes:
            pairs = tuple(MODES[name].arguments.items())
            recipe = Recipe("ftp", args.steps, options=pairs)
            rate = args.learning_rate
            state = init_state(recipe, rate, start)
            (params, opt_state), _ = train_chunk(recipe, rate, clean, state, order)
            found = params, radii(opt_state, params)
            beside = beside or found
            accuracy = quickstart.measure(params, data)
            results.setdefault(name, []).append(
                {
                    "seed": seed,
                    "id": accuracy["id"],
                    "ood": accuracy["ood"],
                    "params": apart(found[0], beside[0]),
                    "radii": apart(found[1], beside[1]),
                    "largest_radius": max(map(float, found[1].values())),
                }
            )
            advance(f"seed {seed}: {name}", 1)


def apart(tree: Any, other: Any) -> float:
    """The largest difference between two trees."""
    far = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), tree, other)
    return max(jax.tree.leaves(far))


if __name__ == "__main__":
    sys.exit(main())
