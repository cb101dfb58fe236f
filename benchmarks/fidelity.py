"""Measure what each mode of FTP gives up for the memory that it saves.

Three things. The golden trajectories of the published code, which the repository holds:
how far parameters and radii are from them at worst. A run of 20,000 noisy steps: how
far the anchor has moved, which an implicit one does by rounding. And the fine-tuning of
a small network on digits, from the same starts with the same batches: radii and
parameters beside those of the explicit mode, and the accuracies, which have to agree to
within the noise of the seeds.

Run it so:
  python -m benchmarks.fidelity
  python -m benchmarks.fidelity --smoke
  python -m benchmarks.fidelity --modes int8 implicit --seeds 10
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

import ftp_optax
from benchmarks import contenders, show
from benchmarks.command import Option, Results, parse, run
from benchmarks.contenders import EXPLICIT, MODES
from benchmarks.show import Target
from experiments.data import digits

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"
NOISY_SHAPES = {"dense/kernel": (64, 96), "conv/kernel": (3, 3, 8, 32), "bias": (96,)}
EXACT, ROUNDED = 1e-5, 1e-3  # how closely a mode has to match the published code
DRIFT = 1e-5  # how far an anchor may move
PRETRAIN_RATE, PRETRAIN_BATCH, BATCH = 2e-3, 128, 64
DECAY = 1e-2
OPTIONS = {
    "modes": Option(list(MODES), "of FTP; explicit always takes part", MODES),
    "seeds": Option(5, "of the fine-tuning on digits"),
    "steps": Option(300, "of each fine-tuning"),
    "pretrain_steps": Option(600, "before each fine-tuning"),
    "learning_rate": Option(1e-2, "of the fine-tuning"),
    "noisy_steps": Option(20_000, "of the noisy run"),
}
SMOKE = {"seeds": 2, "steps": 50, "pretrain_steps": 50, "noisy_steps": 200}
RECORDED = {"params": ".1e", "radii": ".1e", "anchor": ".1e"}
TRAINED = {"ID": ".1%", "OOD": ".1%", "ID - explicit": "", "OOD - explicit": ""}
TRAINED |= {"params": ".1e", "radii": ".1e"}
LEGEND = (
    "Golden: largest difference from the parameters and radii that the published code"
    " went through, and of the anchor from where it was, after the noisy run. Digits:"
    " mean accuracies over seeds, their differences from those of the explicit mode"
    " with a 95 % interval, in points, and the largest differences of parameters and"
    " radii at the end."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit status."""
    args = parse(argv, "fidelity", __doc__, OPTIONS, SMOKE)
    args.modes = [name for name in MODES if name in {EXPLICIT, *args.modes}]
    total = (2 + args.seeds) * len(args.modes)
    return run(args, measure, total, conclude)


def measure(args: argparse.Namespace, results: Results) -> Iterator[str]:
    """Fills in all three, mode by mode, and then seed by seed."""
    results |= {"golden": {}, "digits": {}}
    for name in args.modes:
        yield f"golden: {name}"
        row = results["golden"][name] = golden(MODES[name].arguments)
        yield f"noisy: {name}"
        row["anchor"] = noisy(MODES[name].arguments, args.noisy_steps, args.seed)
    for name, figures in fine_tuned(args):
        results["digits"].setdefault(name, []).append(figures)
        yield f"digits: {name}"


def golden(arguments: Mapping[str, Any]) -> dict[str, float]:
    """The largest differences from the recorded parameters and radii at any step."""
    worst = {"params": 0.0, "radii": 0.0}
    for path in sorted(GOLDEN.glob("*.npz")):
        with np.load(path) as file:
            recorded = {key: file[key] for key in file}
        radii = dict(zip(recorded["radius_names"], recorded["radius"].T, strict=True))
        for t, (params, found) in enumerate(replay(recorded, arguments)):
            expected = {name: recorded[f"param/{name}"][t] for name in params}
            worst["params"] = max(worst["params"], apart(params, expected))
            expected = {name: radii[name][t] for name in found}
            worst["radii"] = max(worst["radii"], apart(found, expected))
    return worst


def replay(recorded: Mapping[str, Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Parameters and radii by name after each step on the recorded gradients."""
    meta = json.loads(str(recorded["meta"]))
    decay, rate = meta["weight_decay"], meta["lr"]
    optimizer = optax.adamw(rate, weight_decay=decay)
    if meta["optimizer"] != "adamw":
        sgd = optax.sgd(rate, meta["momentum"], meta["nesterov"])
        optimizer = optax.chain(optax.add_decayed_weights(decay), sgd)
    exclude = [f"^{name}$" for name in meta["exclude"]]
    tx = ftp_optax.with_ftp(
        optimizer,
        meta["kappa"],
        exclude=exclude,
        axes=ftp_optax.torch_axes,
        **arguments,
    )
    of = lambda kind: {
        key.removeprefix(kind): jnp.asarray(value)
        for key, value in recorded.items()
        if key.startswith(kind)
    }
    params, grads, update = of("init/"), of("grad/"), contenders.update_of(tx)
    state, update = tx.init(params), jax.jit(update)
    radii = jax.jit(ftp_optax.radii)
    for t in range(meta["steps"]):
        now = {name: values[t] for name, values in grads.items()}
        params, state = update(params, state, now)
        yield params, radii(state, params)


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
    tx = ftp_optax.with_ftp(contenders.adamw(), **arguments)
    update = contenders.update_of(tx)

    def step(carry: Any, i: jax.Array) -> Any:
        sign = jnp.where(i % 5000 < 3000, 1.0, -1.0)
        noise = draw(jax.random.fold_in(key, 100 + i), 3.0)
        grads = jax.tree.map(lambda p, e: sign * p + e, pull, noise)
        return update(*carry, grads), None

    scanned = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(steps))[0])
    params, state = scanned((start, tx.init(start)))
    return max(map(float, ftp_optax.anchor_drift(state, params, start).values()))


def fine_tuned(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fine-tunes in every mode from the same starts: a mode's name and its figures."""
    network, splits = contenders.published("small"), digits.splits()
    _, logits = contenders.functional(network, 0)
    correct = jax.jit(lambda p, images, labels: logits(p, images).argmax(-1) == labels)
    adamw = lambda rate, steps: optax.adamw(
        optax.cosine_decay_schedule(rate, steps), weight_decay=DECAY
    )
    pretrained = trainer(adamw(PRETRAIN_RATE, args.pretrain_steps), logits)
    inner = adamw(args.learning_rate, args.steps)
    tuned = {
        name: trainer(ftp_optax.with_ftp(inner, **MODES[name].arguments), logits)
        for name in args.modes
    }
    for seed in range(args.seeds):
        drawn = batches(splits["broad"], PRETRAIN_BATCH, args.pretrain_steps, seed)
        start, _ = pretrained(contenders.functional(network, seed)[0], drawn)
        drawn = batches(splits["train"], BATCH, args.steps, 1000 + seed)
        explicit: Any = None
        for name in args.modes:
            params, state = tuned[name](start, drawn)
            radii = ftp_optax.radii(state, params)
            explicit = explicit or (params, radii)
            test = [splits[domain] for domain in digits.DOMAINS]  # the first is clean
            shares = [correct(params, pixels(d.images), d.labels).mean() for d in test]
            figures = {"seed": seed, "ID": float(shares[0])}
            figures["OOD"] = float(np.mean(shares[1:]))
            figures["params"] = apart(params, explicit[0])
            figures["radii"] = apart(radii, explicit[1])
            figures["largest_radius"] = max(map(float, radii.values()))
            yield name, figures


def trainer(tx: optax.GradientTransformation, logits: Callable) -> Callable:
    """Compiled: `(params, batches) -> (params, state)`, all batches in turn."""
    update, gradient = contenders.update_of(tx), jax.grad(contenders.loss_of(logits))

    def step(carry: Any, batch: contenders.Batch) -> Any:
        return update(*carry, gradient(carry[0], batch)), None

    start = lambda params: (params, tx.init(params))
    return jax.jit(lambda params, drawn: jax.lax.scan(step, start(params), drawn)[0])


def batches(split: Any, size: int, steps: int, seed: int) -> tuple[Any, Any]:
    """Images and labels `(steps, size, ...)`, in a new order each time round."""
    rng, images = np.random.default_rng(seed), len(split.labels)
    rounds = -(-steps * size // images)
    order = np.concatenate([rng.permutation(images) for _ in range(rounds)])
    order = order[: steps * size].reshape(steps, size)
    return pixels(split.images)[order], split.labels[order]


def pixels(images: np.ndarray) -> np.ndarray:
    """Grey images `(n, h, w)` in [0, 1] as uint8 `(n, h, w, 3)`."""
    return np.repeat(np.round(255 * images).astype(np.uint8)[..., None], 3, axis=-1)


def apart(tree: Any, other: Any) -> float:
    """The largest difference between two trees."""
    far = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), tree, other)
    return max(jax.tree.leaves(far))


def rows_of(runs: Mapping[str, Sequence[Mapping]]) -> dict[str, dict[str, Any]]:
    """The columns of each mode, from its runs; the explicit mode's among them.

    `ID off` and `OOD off` are how far, in points, Student's 95 % interval of the
    difference from the explicit mode stays away from 0.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, of_mode in runs.items():
        column = lambda key, runs=of_mode: np.array([run[key] for run in runs])
        row = rows[name] = {key: column(key).max() for key in ("params", "radii")}
        for key in ("ID", "OOD"):
            explicit = [run[key] for run in runs[EXPLICIT][: len(of_mode)]]
            far, reach = 100 * (column(key) - explicit), 0.0
            if len(far) > 1:
                reach = scipy.stats.t.ppf(0.975, len(far) - 1) * scipy.stats.sem(far)
            row[key] = column(key).mean()
            row[f"{key} - explicit"] = f"{far.mean():+.2f} +- {reach:.2f}"
            row[f"{key} off"] = float(max(abs(far.mean()) - reach, 0.0))
    return rows


def targets_of(rows: Mapping[str, Any], noisy_steps: int) -> list[dict[str, Any]]:
    """Which modes match the published code, keep the anchor and the accuracies."""
    targets = []
    for name, mode in MODES.items():
        ftp = f"FTP ({mode.label})"
        bound = ROUNDED if "displacement_dtype" in mode.arguments else EXACT
        text = f"{ftp} matches the published code to {bound:g}"
        targets.append(Target(text, name, "golden", bound))
        text = f"The anchor of {ftp} stays to {DRIFT:g} for {noisy_steps} steps"
        targets.append(Target(text, name, "anchor", DRIFT))
        for key in ("ID", "OOD") if name != EXPLICIT else ():
            text = f"{ftp} is as good as explicit, {key}, points"
            targets.append(Target(text, name, f"{key} off", 0.0))
    return show.verdicts(targets, rows, "here")


def conclude(results: Results) -> show.Report:
    """One table against the published code, one of the digits, the verdicts."""
    asked, golden = results["options"], results["golden"]
    trained = rows_of(results["digits"])
    rows = {
        name: trained.get(name, {}) | row | {"golden": max(row["params"], row["radii"])}
        for name, row in golden.items()
    }
    title = f"Golden trajectories, and {asked['noisy_steps']} noisy steps"
    tables = [show.table(title, "FTP", RECORDED, show.named(golden, MODES))]
    if trained:
        seeds = len(results["digits"][EXPLICIT])
        title = f"Digits, {seeds} seeds, {asked['steps']} steps at"
        title += f" {asked['learning_rate']:g}"
        tables.append(show.table(title, "FTP", TRAINED, show.named(trained, MODES)))
    return show.Report(tables, LEGEND, targets_of(rows, asked["noisy_steps"]))


if __name__ == "__main__":
    sys.exit(main())
