"""What a run works with: its data, its start, and what its steps follow."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import FrozenConfigDict

from experiments import records
from experiments.configs.base import Config
from experiments.configs.values import SettingError
from experiments.data.batches import Sizes, train_batches
from experiments.data.sources import Source
from experiments.evaluation import Evaluator, domains
from experiments.methods import METHODS, Held
from experiments.run_folder import versions
from experiments.start import HEAD, Origin, Shared, Start, origin
from experiments.step import Knobs, Placement, Training
from experiments.tasks import task_of
from experiments.tasks.task import Task

# Options that ask for a label of every image.
OF_LABELS = (
    *("recipe.mixup", "recipe.cutmix", "recipe.mask_classes"),
    *("data.randaugment", "data.random_erasing", "evaluation.own_classes"),
)


class Setup(NamedTuple):
    """All that a configuration stands for.

    Attributes:
      config: as given.
      shared: what other runs have in common with it.
      train: the training set.
      origin: the options that the start depends on.
      start: the model before fine-tuning.
      evaluator: measures the model, on the validation set and every test set.
      training: what is fixed about its steps.
      knobs: learning rate and strength, as arrays.
      strength: of the method, or `None`.
      validate_every: steps between two validations.
    """

    config: Config
    shared: Shared
    train: Source
    origin: Origin
    start: Start
    evaluator: Evaluator
    training: Training
    knobs: Knobs
    strength: Any
    validate_every: int

    @property
    def task(self) -> Task:
        """What is learned."""
        return self.evaluator.task

    @property
    def placement(self) -> Placement:
        """Where arrays live."""
        return self.evaluator.placement

    def description(self) -> dict[str, Any]:
        """What a record says of the run before it says how it went."""
        config, method = self.config, METHODS[self.config.method.name]
        return {
            "job": records.JOB,
            "name": config.name,
            "method": config.method.name,
            "label": method.label,
            "seed": config.seed,
            "setting": {
                "learning_rate": None if method.probes else config.method.learning_rate,
                "strength": self.strength,
                "strength_name": method.strength and method.strength.name,
            },
            "model": config.model.name,
            "start": self.origin.model.start,
            "image_size": config.data.image_size[0],
            "metric": self.task.metric._asdict(),
            "layers": self.start.layers,
            "config": config.to_dict(),
            "versions": versions("scikit-learn", "grain"),
            "machine": records.machine(),
        }


def set_up(config: Config, shared: Shared | None = None) -> Setup:
    """Opens the data, builds the model, and derives the recipe.

    Args:
      config: of one run.
      shared: what earlier runs made that this one may take; it is added to.

    Raises:
      DataError, WeightsError, SettingError: the configuration asks for what is not
        there or does not fit.
    """
    data, recipe, evaluated = config.data, config.recipe, config.evaluation
    method, placement = METHODS[config.method.name], Placement()
    shared = shared or Shared()
    train, validation, tests = _sources(config, shared)
    for name, size in (
        ("recipe.batch_size", recipe.batch_size),
        ("evaluation.batch_size", evaluated.batch_size),
    ):
        if size % placement.mesh.size:
            raise SettingError(
                f"{name}: expected a multiple of the {placement.mesh.size} devices,"
                f" got {size}."
            )
    task = task_of(train.target)
    _check_classes(config, train)
    sizes = Sizes(
        evaluated.batch_size, tuple(data.image_size), data.resize, evaluated.limit
    )
    begins = origin(config)
    start = shared.start(begins)
    per_epoch = max(1, len(train) // recipe.batch_size)
    strength = config.method.strength
    if strength is None and method.strength is not None:
        strength = method.strength.default
    knobs = config.method.learning_rate, strength or 0.0, config.seed
    free = (HEAD,) if config.method.free_head and HEAD not in start.new else ()
    steps, warmup_steps = _length(recipe, per_epoch)
    return Setup(
        config=config,
        shared=shared,
        train=train,
        origin=begins,
        start=start,
        evaluator=Evaluator(
            *(task, start.graphdef, sizes, placement, validation),
            domains(tests, evaluated),
        ),
        training=Training(
            recipe=FrozenConfigDict(recipe.to_dict() | {"steps": steps}),
            warmup_steps=warmup_steps,
            method=config.method.name,
            held=Held(exclude=(*start.new, *free)),
            task=task,
            graphdef=start.graphdef,
            steps_per_epoch=per_epoch,
            layers=start.layers,
            drops_paths=bool(config.model.options.get("drop_path")),
            allowed=train.occurring if recipe.mask_classes else None,
        ),
        knobs=Knobs(*placement.replicated(knobs)),
        strength=strength,
        validate_every=evaluated.validate_every or per_epoch,
    )


def _sources(
    config: Config, shared: Shared
) -> tuple[Source, Source, dict[str, Source]]:
    specs = config.data.train, config.data.validation
    train, validation = (shared.source(spec, config) for spec in specs)
    tests = {
        name: shared.source(spec, config, to_learn=False)
        for name, spec in config.evaluation.tests.items()
    }
    for source in (validation, *tests.values()):
        if (source.target, source.num_classes) != (train.target, train.num_classes):
            raise SettingError(
                f"data: {source.name} has {source.num_classes} classes for"
                f" {task_of(source.target).name}, but {train.name} has"
                f" {train.num_classes} for {task_of(train.target).name}."
            )
    return train, validation, tests


def _check_classes(config: Config, train: Source) -> None:
    """Raises a `SettingError` for an option that needs classes of another kind."""
    name, smoothing = task_of(train.target).name, config.recipe.label_smoothing
    if smoothing and not train.class_names:
        raise SettingError(
            f"recipe.label_smoothing: {name} has no classes to spread a target over;"
            f" expected 0, got {smoothing}."
        )
    options = records.flat(config.to_dict())
    for option in OF_LABELS if train.target.dense else ():
        if value := options[option]:
            raise SettingError(
                f"{option}: {name} has no labels of whole images; expected"
                f" {type(value)()}, got {value}."
            )


def _length(recipe: Config, per_epoch: int) -> tuple[int, int]:
    """Steps of the training, and of the warm-up within it."""
    steps = recipe.steps or recipe.epochs * per_epoch
    warmup_steps = math.ceil(recipe.warmup_epochs * per_epoch)
    if warmup_steps >= steps:
        raise SettingError(
            "recipe.warmup_epochs: expected fewer than the training has, which takes"
            f" {steps} steps; got {recipe.warmup_epochs}, {warmup_steps} steps."
        )
    return steps, warmup_steps


# ---- What training draws from -------------------------------------------------------


def iterators(setup: Setup) -> dict[str, Any]:
    """The endless batches that training draws from, by name."""
    config, data = setup.config, setup.config.data
    endless = functools.partial(
        train_batches,
        batch_size=config.recipe.batch_size,
        image_size=tuple(data.image_size),
        seed=config.seed,
        workers=config.io.workers,
    )
    changed = functools.partial(
        endless,
        scale=tuple(data.scale),
        flip=data.flip,
        magnitude=data.randaugment,
        erasing=data.random_erasing,
    )
    batches = {"train": iter(changed(setup.train))}
    if METHODS[config.method.name].needs_held_out:
        validation = setup.evaluator.validation
        still = endless(validation, scale=(1.0, 1.0), flip=False)
        batches["held_out"] = iter(still)
    return batches


def next_batches(placement: Placement, batches: dict[str, Iterator]) -> tuple:
    """The next batch, and the next held-out one if there are such, on the devices."""
    placed = {name: placement.batch(next(batch)) for name, batch in batches.items()}
    return placed["train"], placed.get("held_out")
