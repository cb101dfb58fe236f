r"""Fine-tunes one model with one method, and measures it on every domain.

    python -m experiments.train --config=experiments/configs/pacs.py \
        --config.model.weights=RESNET18.npz --config.method=ftp --out=runs/pacs/ftp

Every option of the configuration can be set from the command line. The same command run
again goes on from the last checkpoint, also after SIGTERM, Ctrl-C or worse, and ends
with the same numbers.
"""

import functools
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import jax
from rich.console import Console

from experiments import inputs, observation, probe, records
from experiments.checkpoints import Checkpoints
from experiments.configs.base import Config
from experiments.data.batches import train_batches
from experiments.interruption import Interrupted, Interruption
from experiments.launch import launch
from experiments.log import Log
from experiments.methods import METHODS, Params, mixed
from experiments.optimization import TrainState, init_method, train_step
from experiments.outcome import Trained, measure, validate
from experiments.placement import Placement
from experiments.progress import progress
from experiments.settings import check, plain_dict
from experiments.setup import Setup, set_up
from experiments.start import probing, with_head

# ---- One run -----------------------------------------------------------------------


def run(config: Config, out: pathlib.Path, console: Console) -> dict[str, Any]:
    """Trains and measures, or goes on, or returns the record of a finished run.

    Args:
      config: see `experiments.configs.base`.
      out: the run's folder.
      console: shows the progress.

    Returns:
      The content of `metrics.json`.

    Raises:
      ValueError: data, weights, configuration or folder do not fit.
      Interrupted: a signal arrived while it trained; the run is saved.
    """
    check(config)
    record = records.open_run(out, plain_dict(config))
    inputs.check(out, config)
    if record:
        return record
    setup = set_up(config)
    method = METHODS[config.method]
    if method.probes:
        trained = fit_probe(setup)
    elif config.trained_from:
        trained = load(setup, pathlib.Path(config.trained_from))
    else:
        trained = train(setup, out, console)
    if method.mixes:
        trained = mix(setup, trained)
    records.save_selected(out, trained.params, trained.statistics)
    records.write(out / records.METRICS, measure(setup, trained))
    shutil.rmtree(out / records.CHECKPOINTS, ignore_errors=True)
    return records.read(out / records.METRICS)


# ---- Training ----------------------------------------------------------------------


def train(setup: Setup, out: pathlib.Path, console: Console) -> Trained:
    """Takes every step, keeps what ID validation likes best, saves on the way."""
    config, recipe, knobs = setup.config, setup.recipe, setup.knobs
    start = setup.placement.replicated((setup.start.params, setup.start.statistics))
    pretrained, statistics = start
    state = TrainState(pretrained, statistics, init_method(recipe, knobs, pretrained))
    state = setup.placement.replicated(state)  # donated: in buffers of its own
    arrays = {"state": state, "best": start}
    batches = iterators(setup)
    checkpoints = Checkpoints(out / records.CHECKPOINTS)
    step, saved = 0, None
    if found := checkpoints.restore(arrays, batches):
        step, arrays, saved = found
    state, best = arrays["state"], arrays["best"]
    log, per_epoch = Log(out, step, saved), setup.steps_per_epoch

    def save() -> None:
        content = {"state": state, "best": best}
        checkpoints.save(step, content, log.saved(), batches)

    with (
        progress(console, recipe.steps, step, config.batch_size) as advance,
        Interruption() as interruption,
        jax.transfer_guard("disallow"),
    ):
        began = time.monotonic()
        while step < recipe.steps and not log.diverged:
            batch, held_out = next_batches(setup.placement, batches)
            state, scalars = train_step(
                recipe, setup.start.graphdef, knobs, state, batch, held_out
            )
            step += 1
            log.step(scalars)
            last = step == recipe.steps
            due, ends = step % config.observe_every == 0, step % per_epoch == 0
            seen = {}
            if due or ends or last:
                seen = observation.observe(pretrained, state.params, state.method)
            if due or last:
                log.observe(step, scalars, seen)
            if ends or last:
                jax.block_until_ready(state)
                log.seconds += time.monotonic() - began
                epoch = -(-step // per_epoch)
                score = validate(setup, state.params, state.statistics)
                if log.epoch(epoch, step, score):
                    best = copied((state.params, state.statistics))
                    log.seen = records.jsonable(jax.device_get(seen))
                began = time.monotonic()
            advance(f"epoch {-(-step // per_epoch)}", 1)
            if interruption.number or step % config.save_every == 0:
                log.seconds += time.monotonic() - began
                save()
                began = time.monotonic()
            if interruption.number:
                checkpoints.close()
                log.close()
                raise Interrupted(interruption.number)
        save()  # to measure a model may take longer than to train it
    checkpoints.close()
    log.close()
    params, statistics = best
    return Trained(params, statistics, log.seen, log, log.diverged)


def iterators(setup: Setup) -> dict[str, Any]:
    """The endless batches that training draws from, by name."""
    config, data = setup.config, setup.config.data
    endless = functools.partial(
        train_batches,
        batch_size=config.batch_size,
        image_size=tuple(data.image_size),
        seed=config.seed,
        workers=data.workers,
        cache=data.cache,
    )
    scale, flip = tuple(data.scale), data.flip
    found = {"train": iter(endless(setup.train, scale=scale, flip=flip))}
    if METHODS[config.method].needs_held_out:
        still = endless(setup.validation.source, scale=(1.0, 1.0), flip=False)
        found["held_out"] = iter(still)
    return found


def next_batches(placement: Placement, batches: dict[str, Iterator]) -> tuple:
    """The next batch, and the next held-out one if there are such, on the devices."""
    found = {name: placement.batch(next(batch)) for name, batch in batches.items()}
    return found["train"], found.get("held_out")


def copied(tree: Any) -> Any:
    """A copy that stays when the original is donated."""
    return jax.tree.map(lambda x: x.copy(), tree)


# ---- Instead of training, and after it ---------------------------------------------


def fit_probe(setup: Setup) -> Trained:
    """The head alone, fitted to the features of the pre-trained trunk."""
    features = probing(setup.origin).train
    head = probe.fit(features, setup.train.num_classes, setup.strength)
    return chosen(setup, with_head(setup.start, head).params, setup.start.statistics)


def load(setup: Setup, run: pathlib.Path) -> Trained:
    """The parameters that a finished run selected."""
    record = records.check_same_training(run, plain_dict(setup.config))
    params, statistics = records.load_selected(
        run, (setup.start.params, setup.start.statistics)
    )
    diverged = record["status"] == "diverged"
    return chosen(setup, params, statistics)._replace(diverged=diverged)


def mix(setup: Setup, trained: Trained) -> Trained:
    """WiSE-FT: the weights between the start and what was trained."""
    pretrained = setup.start.params, setup.start.statistics
    tuned = trained.params, trained.statistics
    params, statistics = mixed(pretrained, tuned, setup.strength)
    again = chosen(setup, params, statistics)
    return again._replace(log=trained.log, diverged=trained.diverged)


def chosen(setup: Setup, params: Params, statistics: Params) -> Trained:
    """Parameters that came about without steps of the method."""
    params, statistics = setup.placement.replicated((params, statistics))
    start = setup.placement.replicated(setup.start.params)
    seen = observation.observe(start, params, None)
    return Trained(params, statistics, jax.device_get(seen), None, diverged=False)


# ---- Command line ------------------------------------------------------------------


def show(config: Config, out: pathlib.Path, console: Console) -> None:
    """Runs, and prints what came out."""
    record = run(config, out, console)
    for name, found in record["evaluation"].items():
        console.print(f"{name:<24} {record['metric']} {found[record['metric']]:.3f}")
    console.print(f"ID validation {record['id_val']:.3f}; the record is in {out}")


if __name__ == "__main__":
    launch(records.JOB, show, str(__doc__))
