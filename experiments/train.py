r"""Fine-tunes one model with one method, and measures it on every domain.

    python -m experiments.train --config=experiments/configs/pacs.py \
        --config.io.weights=RESNET18.npz --config.method.name=ftp --out=runs/pacs/ftp

Every option of the configuration can be set from the command line. The same command run
again goes on from the last checkpoint, also after SIGTERM, Ctrl-C or worse, and ends
with the same numbers.
"""

import contextlib
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax

from experiments import evaluation, records
from experiments.configs.base import Config, check
from experiments.files import jsonable, locked, read, write
from experiments.methods import METHODS, Model, holding, mixed, with_holding
from experiments.models import MODELS
from experiments.progress import Display, Interrupted, Interruption
from experiments.run_folder import Checkpoints, Log, check_contents
from experiments.setup import Setup, iterators, next_batches, set_up
from experiments.start import Shared, with_head
from experiments.step import init_state, train_step


class Trained(NamedTuple):
    """What training leaves: the parameters that ID validation chose, and its log."""

    model: Model
    seen: dict[str, dict[str, float]]  # of `evaluation.observe`, for this model
    log: Log | None = None
    diverged: bool = False
    holding: Any = None  # what the method holds after the last step


# ---- One run -----------------------------------------------------------------------


def run(
    config: Config, out: pathlib.Path, display: Display, shared: Shared | None = None
) -> dict[str, Any]:
    """Trains and measures, or goes on, or returns the record of a finished run.

    Args:
      config: see `experiments.configs.base`.
      out: the run's folder.
      display: shows the progress.
      shared: what this run has in common with others.

    Returns:
      The content of `metrics.json`.

    Raises:
      ValueError: data, weights or configuration do not fit.
      RecordError: the folder is another run's, or another process is at it.
      Interrupted: a signal arrived while it trained; the run is saved.
    """
    check(config, METHODS, MODELS)
    with locked(out):
        record = records.open_run(out, config.to_dict())
        check_contents(out, config)
        shared = shared or Shared(display.stage)
        record = record or _run(config, out, display, shared)
        # Here, for a kill may have kept an earlier start from it.
        shutil.rmtree(out / records.CHECKPOINTS, ignore_errors=True)
        (out / records.CHECKSUMS).unlink(missing_ok=True)
        return record


def _run(
    config: Config, out: pathlib.Path, display: Display, shared: Shared
) -> dict[str, Any]:
    setup = set_up(config, shared)
    method = METHODS[config.method.name]
    if method.probes:
        trained = fit_probe(setup)
    elif config.io.trained_from:
        trained = load(setup, pathlib.Path(config.io.trained_from))
    else:
        trained = train(setup, out, display)
    if method.mixes:
        trained = mix(setup, trained)
    params, statistics = trained.model
    records.save(out / records.SELECTED, {"params": params, "statistics": statistics})
    if config.io.keep_anchor:
        records.save(out / records.ANCHOR, {"holding": trained.holding})
    write(out / records.METRICS, measure(setup, trained))
    return read(out / records.METRICS)


# ---- Training ----------------------------------------------------------------------


def train(setup: Setup, out: pathlib.Path, display: Display) -> Trained:
    """Takes every step, keeps what ID validation likes best, saves on the way."""
    config, training, knobs = setup.config, setup.training, setup.knobs
    recipe: Any = training.recipe
    start = setup.placement.replicated(setup.start.model)
    pretrained, _ = start
    state = init_state(training, knobs, *start)
    if run := config.method.anchor_from:
        held = records.load_anchor(pathlib.Path(run), holding(state.method))
        state = state._replace(method=with_holding(state.method, held))
    state = setup.placement.replicated(state)  # donated: in buffers of its own
    arrays = {"state": state, "best": start}
    batches = iterators(setup)
    checkpoints = Checkpoints(out / records.CHECKPOINTS, config.io.workers)
    step, saved = 0, None
    if restored := checkpoints.restore(arrays, batches, display.print):
        step, arrays, saved = restored
    state, best = arrays["state"], arrays["best"]
    log, per_epoch = Log(out, step, saved), training.steps_per_epoch

    def save() -> None:
        content = {"state": state, "best": best}
        checkpoints.save(step, content, log.saved(), batches)

    with (
        contextlib.closing(checkpoints),
        contextlib.closing(log),
        display.bar(recipe.steps, step, images=recipe.batch_size) as advance,
        Interruption() as interruption,
        jax.transfer_guard("disallow"),
    ):
        advance("compiling", 0)
        began = time.monotonic()
        while step < recipe.steps and not log.diverged:
            batch, held_out = next_batches(setup.placement, batches)
            state, scalars = train_step(training, knobs, state, batch, held_out)
            step += 1
            log.step(scalars)
            last = step == recipe.steps
            due = step % config.evaluation.observe_every == 0
            ends = step % setup.validate_every == 0
            seen = {}
            if due or ends or last:
                seen = evaluation.observe(pretrained, state.model[0], state.method)
            if due or last:
                log.observe(step, scalars, seen)
            if ends or last:
                jax.block_until_ready(state)
                log.seconds += time.monotonic() - began
                epoch = round(step / per_epoch, 3)
                score = setup.evaluator.validate(state.model)
                if log.validated(setup.task.metric, epoch, step, score):
                    # Copied: the original is donated.
                    best = jax.tree.map(lambda x: x.copy(), state.model)
                    log.seen = jsonable(jax.device_get(seen))
                began = time.monotonic()
            advance(f"epoch {-(-step // per_epoch)}", 1)
            if interruption.number or step % config.io.save_every == 0:
                log.seconds += time.monotonic() - began
                save()
                began = time.monotonic()
            if interruption.number:
                raise Interrupted(interruption.number)
        save()  # to measure a model may take longer than to train it
    held = holding(state.method) if config.io.keep_anchor else None
    return Trained(best, log.seen, log, log.diverged, held)


# ---- Instead of training, and after it ---------------------------------------------


def fit_probe(setup: Setup) -> Trained:
    """The head alone, fitted to the features of the pre-trained trunk."""
    task, features = setup.task, setup.shared.probing(setup.origin).train
    outputs = task.outputs(setup.train.num_classes)
    head = task.probe.fit(features, outputs, setup.strength)
    return chosen(setup, with_head(setup.start, head).model)


def load(setup: Setup, run: pathlib.Path) -> Trained:
    """The parameters that a finished run selected."""
    record = records.check_same_training(run, setup.config.to_dict())
    model = records.load_selected(run, setup.start.model)
    return chosen(setup, model)._replace(diverged=record["status"] == "diverged")


def mix(setup: Setup, trained: Trained) -> Trained:
    """WiSE-FT: the weights between the start and what was trained."""
    between = mixed(setup.start.model, trained.model, setup.strength)
    again = chosen(setup, between)
    return trained._replace(model=again.model, seen=again.seen)


def chosen(setup: Setup, model: Model) -> Trained:
    """A model that came about without steps of the method."""
    start, model = setup.placement.replicated((setup.start.params, model))
    return Trained(model, jax.device_get(evaluation.observe(start, model[0], None)))


# ---- The record ---------------------------------------------------------------------


def measure(setup: Setup, trained: Trained) -> dict[str, Any]:
    """The record of a run: what it was, how it went, and what the model can do now."""
    model, log = trained.model, trained.log
    record = setup.description()
    record["status"] = "diverged" if trained.diverged else "finished"
    with setup.shared.stage("evaluating"):
        record |= setup.evaluator.figures(model)
    record["leaves"] = evaluation.leaves(
        setup.start.params, setup.start.layers, trained.seen
    )
    if log is not None:
        images = log.history["step"][-1] * setup.config.recipe.batch_size
        record |= {
            "steps": log.history["step"][-1],
            "seconds": log.seconds,
            "images_per_second": images / log.seconds,
            "selected": log.best,
            "history": log.history,
            "trace": log.trace,
        }
    if setup.config.evaluation.before and not setup.start.new:
        record["start_evaluation"] = start_evaluation(setup)
    if alphas := setup.config.evaluation.wise_alphas:
        curve = setup.evaluator.wise_curve(setup.start.model, model, alphas)
        record["wise_curve"] = curve
    return record


def start_evaluation(setup: Setup) -> dict[str, Any]:
    """What the start can do before it is fine-tuned; measured once for many runs."""
    evaluator, known = setup.evaluator, setup.shared.figures
    tests = [(name, d.source.name, *d[2:]) for name, d in evaluator.domains.items()]
    key = (setup.origin, evaluator.sizes, tuple(tests))
    if key not in known:
        with setup.shared.stage("evaluating the start"):
            model = setup.placement.replicated(setup.start.model)
            known[key] = evaluator.figures(model)
    return known[key]


# ---- Command line ------------------------------------------------------------------


def show(config: Config, out: pathlib.Path, display: Display) -> None:
    """Runs, and prints what came out."""
    from experiments.telling import told

    record = run(config, out, display)
    display.print(*told(record))
    display.print(f"ID validation {record['id_val']:.3f}; the record is in {out}")


if __name__ == "__main__":
    from experiments.cli import launch

    launch(records.JOB, show, str(__doc__))
