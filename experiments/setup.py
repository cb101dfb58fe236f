"""What a run works with: its data, its start, and the recipe its steps follow."""

import functools
import math
from typing import Any, NamedTuple

from flax import nnx

from experiments import evaluation, models, records
from experiments.configs.base import Config
from experiments.data.sources import Source
from experiments.evaluation import METRIC, Domain
from experiments.methods import METHODS
from experiments.optimization import Knobs, Recipe
from experiments.placement import Placement
from experiments.settings import SettingError, plain_dict
from experiments.start import (
    RANDOM,
    Folders,
    Origin,
    Start,
    opened,
    starting_point,
)
from experiments.versions import versions
from experiments.views import View


class Setup(NamedTuple):
    """All that a configuration stands for.

    Attributes:
      config: as given.
      placement: where arrays live.
      train: the training set.
      validation: the in-distribution set that selects.
      domains: the test sets by name.
      view: how images are shown at evaluation.
      origin: what the start is made from.
      start: the model before fine-tuning.
      recipe: of a step.
      knobs: learning rate and strength, as arrays.
      strength: of the method, or `None`.
      steps_per_epoch: how many.
      metric: name of the headline metric.
    """

    config: Config
    placement: Placement
    train: Source
    validation: Domain
    domains: dict[str, Domain]
    view: View
    origin: Origin
    start: Start
    recipe: Recipe
    knobs: Knobs
    strength: Any
    steps_per_epoch: int
    metric: str

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
            "metric": self.metric,
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
    view = View(
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
        view=view._replace(limit=0),
    )
    start = starting_point(origin)
    per_epoch = max(1, len(train) // config.batch_size)
    strength = config.strength
    if strength is None and method.strength is not None:
        strength = method.strength.default
    knobs = Knobs(*placement.replicated((config.learning_rate, strength or 0.0)))
    return Setup(
        config=config,
        placement=placement,
        train=train,
        validation=Domain("id", validation),
        domains=evaluation.domains(
            tests, data.id, data.corruptions, data.severities, data.own_classes
        ),
        view=view,
        origin=origin,
        start=start,
        recipe=_recipe(config, per_epoch, start.new),
        knobs=knobs,
        strength=strength,
        steps_per_epoch=per_epoch,
        metric=METRIC[train.task],
    )


def _sources(config: Config) -> tuple[Source, Source, dict[str, Source]]:
    data, folders = config.data, _folders(config)
    train, validation = (opened(s, folders) for s in (data.train, data.validation))
    tests = {name: opened(spec, folders) for name, spec in data.tests.items()}
    for source in (validation, *tests.values()):
        if (source.task, source.num_classes) != (train.task, train.num_classes):
            raise SettingError(
                f"data: {source.name} has {source.num_classes} classes for"
                f" {source.task}, but {train.name} has {train.num_classes} for"
                f" {train.task}."
            )
    return train, validation, tests


def _model_options(config: Config) -> tuple[tuple[str, Any], ...]:
    """As given, and the size of the images where the model is made for one.

    Raises:
      SettingError: the model takes no such options, or no such images.
    """
    options = dict(config.model.options.items())
    if models.is_sized(config.model.name):
        shown = tuple(config.data.image_size)
        side = options.setdefault("image_size", shown[0])
        if shown != (side, side):
            raise SettingError(
                f"data.image_size: {config.model.name} takes square images, here of"
                f" {side} pixels a side; got {shown}."
            )
    found = tuple(options.items())
    _check_options(config.model.name, found)
    return found


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
        new=new,
    )


def _folders(config: Config) -> Folders:
    data = config.data
    return Folders(data.data_dir, data.source_dir, data.cache)
