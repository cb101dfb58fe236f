"""What a run works with: its data, its start, and the recipe its steps follow."""

import functools
import math
from typing import Any, NamedTuple

from flax import nnx

from experiments import evaluation, models, records
from experiments.configs.base import RANDOM, Config
from experiments.data.batches import Sizes
from experiments.data.sources import Source
from experiments.evaluation import Domain, Evaluator
from experiments.methods import METHODS, Held
from experiments.run_folder import versions
from experiments.settings import SettingError, plain_dict
from experiments.start import (
    Folders,
    Origin,
    Start,
    opened,
    starting_point,
)
from experiments.step import Knobs, Placement, Recipe
from experiments.tasks import task_of
from experiments.tasks.task import Task


class Setup(NamedTuple):
    """All that a configuration stands for.

    Attributes:
      config: as given.
      task: what is learned.
      train: the training set.
      validation: the in-distribution set that selects.
      domains: the test sets by name.
      origin: what the start is made from.
      start: the model before fine-tuning.
      evaluator: measures the model.
      recipe: of a step.
      knobs: learning rate and strength, as arrays.
      strength: of the method, or `None`.
      steps_per_epoch: how many.
    """

    config: Config
    task: Task
    train: Source
    validation: Source
    domains: dict[str, Domain]
    origin: Origin
    start: Start
    evaluator: Evaluator
    recipe: Recipe
    knobs: Knobs
    strength: Any
    steps_per_epoch: int

    @property
    def placement(self) -> Placement:
        """Where arrays live."""
        return self.evaluator.placement

    def description(self) -> dict[str, Any]:
        """What a record says of the run before it says how it went."""
        config, method = self.config, METHODS[self.config.method]
        return {
            "job": records.JOB,
            "name": config.name,
            "method": config.method,
            "label": method.label,
            "seed": config.seed,
            "setting": {
                "learning_rate": None if method.probes else config.learning_rate,
                "strength": self.strength,
                "strength_name": method.strength and method.strength.name,
            },
            "model": config.model.name,
            "start": self.origin.head,
            "image_size": config.data.image_size[0],
            **self.task.as_recorded(),
            "layers": self.start.layers,
            "config": plain_dict(config),
            "versions": versions("scikit-learn", "grain"),
            "machine": records.machine(),
        }


def set_up(config: Config) -> Setup:
    """Opens the data, builds the model, and derives the recipe.

    Raises:
      DataError, WeightsError, SettingError: the configuration asks for what is not
        there or does not fit.
    """
    data, method, placement = config.data, METHODS[config.method], Placement()
    train, validation, tests = _sources(config)
    for name in ("batch_size", "evaluation_batch_size"):
        if config[name] % placement.mesh.size:
            raise SettingError(
                f"{name}: expected a multiple of the {placement.mesh.size} devices,"
                f" got {config[name]}."
            )
    task = task_of(train.target)
    if config.label_smoothing and not train.class_names:
        raise SettingError(
            f"label_smoothing: {task.name} has no classes to spread a target over;"
            f" expected 0, got {config.label_smoothing}."
        )
    sizes = Sizes(
        config.evaluation_batch_size, tuple(data.image_size), data.resize, data.limit
    )
    weights = None if config.model.weights == RANDOM else config.model.weights
    origin = Origin(
        model=config.model.name,
        options=_model_options(config),
        weights=weights,
        seed=config.seed if weights is None else 0,
        dtype=config.model.dtype,
        head="probed head" if method.probe_first else config.start,
        train=data.train,
        validation=data.validation,
        folders=_folders(config),
        sizes=sizes._replace(limit=None),
    )
    start = starting_point(origin)
    per_epoch = max(1, len(train) // config.batch_size)
    strength = config.strength
    if strength is None and method.strength is not None:
        strength = method.strength.default
    knobs = Knobs(*placement.replicated((config.learning_rate, strength or 0.0)))
    return Setup(
        config=config,
        task=task,
        train=train,
        validation=validation,
        domains=evaluation.domains(
            tests, data.id, data.corruptions, data.severities, data.own_classes
        ),
        origin=origin,
        start=start,
        evaluator=Evaluator(task, start.graphdef, sizes, placement),
        recipe=_recipe(config, per_epoch, start.new),
        knobs=knobs,
        strength=strength,
        steps_per_epoch=per_epoch,
    )


def _sources(config: Config) -> tuple[Source, Source, dict[str, Source]]:
    data, folders = config.data, _folders(config)
    train, validation = (opened(s, folders) for s in (data.train, data.validation))
    tests = {name: opened(spec, folders) for name, spec in data.tests.items()}
    for source in (validation, *tests.values()):
        if (source.target, source.num_classes) != (train.target, train.num_classes):
            raise SettingError(
                f"data: {source.name} has {source.num_classes} classes for"
                f" {task_of(source.target).name}, but {train.name} has"
                f" {train.num_classes} for {task_of(train.target).name}."
            )
    return train, validation, tests


def _model_options(config: Config) -> tuple[tuple[str, Any], ...]:
    """As given, and the size of the images where the model is made for one.

    Raises:
      SettingError: the model takes no such options, or no such images.
    """
    options = dict(config.model.options.items())
    if models.is_sized(config.model.name):
        size = tuple(config.data.image_size)
        side = options.setdefault("image_size", size[0])
        if size != (side, side):
            raise SettingError(
                f"data.image_size: {config.model.name} takes square images, here of"
                f" {side} pixels a side; got {size}."
            )
    pairs = tuple(options.items())
    _check_options(config.model.name, pairs)
    return pairs


@functools.cache  # a sweep asks for every run
def _check_options(name: str, options: tuple[tuple[str, Any], ...]) -> None:
    """Raises a `SettingError` unless the model can be made with these options."""
    try:  # traced: no array is made
        nnx.eval_shape(
            lambda: models.create(name, 1, rngs=nnx.Rngs(0), **dict(options))
        )
    except (TypeError, ValueError) as error:
        raise SettingError(f"model.options: {name}: {error}") from error


def _recipe(config: Config, per_epoch: int, new: tuple[str, ...]) -> Recipe:
    steps = config.steps or config.epochs * per_epoch
    warmup_steps = math.ceil(config.warmup_epochs * per_epoch)
    if warmup_steps >= steps:
        raise SettingError(
            f"warmup_epochs: expected fewer than the training has, which takes {steps}"
            f" steps; got {config.warmup_epochs}, {warmup_steps} steps."
        )
    return Recipe(
        method=config.method,
        optimizer=config.optimizer,
        steps=steps,
        warmup_steps=warmup_steps,
        final_scale=config.final_scale,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        label_smoothing=config.label_smoothing,
        freeze_statistics=config.freeze_statistics,
        held=Held(exclude=new),
    )


def _folders(config: Config) -> Folders:
    data = config.data
    return Folders(data.data_dir, data.source_dir, data.cache)
