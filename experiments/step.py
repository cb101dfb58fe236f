"""One compiled step of training, the same for every method, and where arrays live."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import FrozenConfigDict

from experiments.methods import METHODS, Held, Model, Params, Rule, only
from experiments.optimizer import optimizer, schedule
from experiments.tasks.task import Task

Batch = dict[str, jax.Array]  # "image" (n, h, w, 3) uint8, "target" (n, ...)


class Training(NamedTuple):
    """What is fixed while a model trains; hashable, so that jit can specialise on it.

    Attributes:
      recipe: the group of the configuration; `steps` is the length of the schedule.
      warmup_steps: steps of linear warm-up, within these.
      method: a key of `METHODS`.
      held: which leaves it holds, and near what.
      task: what is learned.
      graphdef: of the model.
      steps_per_epoch: how many.
      layers: paths of the params, from the input to the head.
      allowed: for each class whether it counts in the loss; `None`: all do.
      drops_paths: whether the model draws what it leaves out.
    """

    recipe: FrozenConfigDict
    warmup_steps: int
    method: str
    held: Held
    task: Task
    graphdef: nnx.GraphDef
    steps_per_epoch: int = 1
    layers: tuple[str, ...] = ()
    allowed: tuple[bool, ...] | None = None
    drops_paths: bool = False


class Knobs(NamedTuple):
    """What a sweep turns. Traced, so that a whole sweep shares one compilation."""

    learning_rate: float | jax.Array  # the highest of the schedule
    strength: float | jax.Array  # of the method
    seed: int | jax.Array = 0  # of what is drawn in a step


class TrainState(NamedTuple):
    """All that a step changes, donated to it and returned in the same order."""

    params: Params
    statistics: Params  # of batch norms; empty without
    method: Any
    mean: Params  # exponential moving average of the params; empty without
    step: jax.Array  # how many were taken, int32

    @property
    def model(self) -> Model:
        """What is evaluated: the params, averaged if they are, and the statistics."""
        return self.mean or self.params, self.statistics


class Placement:
    """A mesh of all devices with one axis, `data`."""

    def __init__(self):
        self.mesh = jax.make_mesh(
            (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
        )
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self._spread = NamedSharding(self.mesh, PartitionSpec("data"))

    def replicated(self, tree: Any) -> Any:
        """Copies of the tree's arrays on every device, in buffers of their own."""
        return jax.tree.map(
            lambda x: jax.device_put(np.array(x), self._everywhere),
            jax.device_get(tree),
        )

    def batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """A batch of the pipeline, spread over the devices.

        Args:
          batch: arrays `(n, ...)`: `image`; a target under its name; and `mask`, where
            the batch may be filled up. `n` is a multiple of the device count.

        Returns:
          The same; the target is `target`, a whole number int32.
        """
        (name,) = batch.keys() - {"image", "mask"}
        target = batch[name]
        if target.dtype.kind in "iu":
            target = target.astype(np.int32)
        placed = {k: v for k, v in batch.items() if k != name} | {"target": target}
        return jax.device_put(placed, self._spread)


def rule(training: Training, knobs: Knobs) -> Rule:
    """The method on top of its base optimizer."""
    recipe: Any = training.recipe
    rate = schedule(
        recipe, training.warmup_steps, knobs.learning_rate, training.steps_per_epoch
    )
    method = METHODS[training.method]
    base = only(optimizer(recipe, rate, training.layers), method.trains)
    return method.rule(base, knobs.strength, training.held)


@functools.partial(jax.jit, static_argnames="training")
def init_state(
    training: Training, knobs: Knobs, params: Params, statistics: Params
) -> TrainState:
    """The state before the first step."""
    recipe: Any = training.recipe
    mean = params if recipe.ema else {}
    method = rule(training, knobs).init(params)
    return TrainState(params, statistics, method, mean, jnp.zeros((), jnp.int32))


def forward(
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    images: jax.Array,
    *,
    train: bool,
    **drawn: jax.Array,
) -> tuple[jax.Array, Params]:
    """What the head gives, and the statistics of the batch norms after it.

    `drawn` is empty, or `rng`, a key, of a model that drops paths.
    """
    model: Any = nnx.merge(graphdef, params, statistics, copy=True)
    outputs = model(images, train=train, **drawn)
    return outputs, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))


def predict(
    graphdef: nnx.GraphDef, params: Params, statistics: Params, images: jax.Array
) -> jax.Array:
    """What the head gives in inference mode."""
    model: Any = nnx.merge(graphdef, params, statistics)
    return model(images, train=False)


def only_of(outputs: jax.Array, allowed: Any) -> jax.Array:
    """Outputs `(..., classes)`, far below all others where a class is not allowed."""
    if allowed is None:
        return outputs
    return jnp.where(jnp.asarray(allowed), outputs, -1e9)


@functools.partial(jax.jit, static_argnames="training", donate_argnames="state")
def train_step(
    training: Training,
    knobs: Knobs,
    state: TrainState,
    batch: Batch,
    held_out: Batch | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step.

    Args:
      training: see `Training`.
      knobs: see `Knobs`.
      state: donated.
      batch: `n` images and their targets, `n` a multiple of the recipe's `accumulate`.
      held_out: another batch, for the methods that need one.

    Returns:
      The new state, and scalars: the mean `loss` and the task's figure over the batch
      before the step, and the global norm of its gradient.
    """
    recipe: Any = training.recipe
    task, graphdef, tx = training.task, training.graphdef, rule(training, knobs)
    key, share = jax.random.fold_in(jax.random.key(knobs.seed), state.step), None
    if recipe.mixup or recipe.cutmix:
        from experiments.mixing import mix  # few recipes do

        images, share = mix(key, batch["image"], recipe.mixup, recipe.cutmix)
        batch = batch | {"image": images, "other": batch["target"][::-1]}

    def loss_of(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        outputs = only_of(outputs, training.allowed)
        return task.loss(outputs, targets, recipe.label_smoothing)

    def loss_fn(params: Params, statistics: Params, part: Batch) -> Any:
        train, drawn = not recipe.freeze_statistics, {}
        if training.drops_paths:
            drawn = {"rng": jax.random.fold_in(key, part.get("number", 0))}
        outputs, statistics = forward(
            graphdef, params, statistics, part["image"], train=train, **drawn
        )
        loss = loss_of(outputs, part["target"])
        if share is not None:
            loss = share * loss + (1 - share) * loss_of(outputs, part["other"])
        name, figure = task.glance
        seen = {"loss": loss, name: figure(outputs, part["target"])}
        return loss, (statistics, seen)

    def held_out_loss(params: Params) -> jax.Array:
        assert held_out is not None
        outputs = predict(graphdef, params, statistics, held_out["image"])
        return loss_of(outputs, held_out["target"])

    grads, (statistics, scalars) = _gradient(
        jax.grad(loss_fn, has_aux=True), recipe.accumulate, state, batch
    )
    scalars["gradient_norm"] = optax.tree.norm(grads)
    params, method = tx.step(
        grads, state.method, state.params, None if held_out is None else held_out_loss
    )
    mean = state.mean
    if recipe.ema:
        mean = optax.incremental_update(params, mean, 1 - recipe.ema)
    return TrainState(params, statistics, method, mean, state.step + 1), scalars


def _gradient(grad_fn: Any, parts: int, state: TrainState, batch: Batch) -> Any:
    """The mean gradient over the parts of a batch, one part in memory at a time."""
    if parts == 1:
        return grad_fn(state.params, state.statistics, batch)

    def body(carry: Any, part: Batch) -> Any:
        total, statistics = carry
        grads, (statistics, scalars) = grad_fn(state.params, statistics, part)
        return (optax.tree.add(total, grads), statistics), scalars

    # Every n-th image, so that each device keeps its own: a part of consecutive ones
    # would lie on a few devices and be sent to all.
    cut = jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )
    cut["number"] = jnp.arange(parts)
    start = (optax.tree.zeros_like(state.params), state.statistics)
    (total, statistics), scalars = jax.lax.scan(body, start, cut)
    means = jax.tree.map(jnp.mean, scalars)
    return optax.tree.scale(1 / parts, total), (statistics, means)
