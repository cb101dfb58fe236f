"""A linear head that is fitted to the features of a trunk, at once.

No gradient steps: the features are extracted once, and the fit is the task's own.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from experiments.data.batches import Sizes, evaluation_batches
from experiments.data.sources import Source
from experiments.data.transforms import nearest
from experiments.methods import Params
from experiments.step import Placement
from experiments.tasks import task_of
from experiments.tasks.task import Features, Head, Task

STRENGTHS = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)  # scikit-learn's C, less is stronger
EXAMPLES = 20_000  # at most, images or pixels of the training set, that a fit sees


class Probing(NamedTuple):
    """The features that heads are fitted to, and those that choose among heads."""

    train: Features
    validation: Features


def best_head(features: Probing, task: Task, num_classes: int) -> Head:
    """The head of the strength that is best on the validation set.

    Of equals the strongest penalty wins.
    """
    outputs = task.outputs(num_classes)
    heads = [task.probe.fit(features.train, outputs, c) for c in STRENGTHS]
    return max(heads, key=lambda head: task.probe.score(head, features.validation))


@functools.partial(jax.jit, static_argnames="graphdef")
def _features(
    graphdef: nnx.GraphDef, params: Params, statistics: Params, images: jax.Array
) -> jax.Array:
    model: Any = nnx.merge(graphdef, params, statistics)
    return model.features(images, train=False)


def extract(start: Any, source: Source, sizes: Sizes) -> Features:
    """The features of a data set, as at evaluation: one row an image, or a pixel.

    Of a feature map every pixel takes the target of the image pixel at its centre;
    those that do not count are left out.
    """
    task, placement = task_of(source.target), Placement()
    params, statistics = placement.replicated(start.model)
    vectors, targets = [], []
    for batch in evaluation_batches(source, sizes):
        placed = placement.batch(batch)
        features = _features(start.graphdef, params, statistics, placed["image"])
        features, mask = np.asarray(jax.device_get(features)), batch["mask"]
        values = batch[source.target.name][mask]
        if source.target.dense:
            grid, whole = features.shape[1:3], (0, 0, *values.shape[2:0:-1])
            fields = [nearest(field, whole, grid) for field in values]
            values = np.reshape(fields, (-1, *values.shape[3:]))
        vectors.append(features[mask].reshape(-1, features.shape[-1]))
        targets.append(values)
    values, outputs = np.concatenate(targets), task.outputs(source.num_classes)
    counts = task.probe.counts(values, outputs)
    return Features(np.concatenate(vectors)[counts], values[counts])


def thinned(features: Features) -> Features:
    """At most `EXAMPLES` of them, drawn evenly."""
    count = len(features.targets)
    if count <= EXAMPLES:
        return features
    every = np.linspace(0, count - 1, EXAMPLES).astype(int)
    return Features(features.vectors[every], features.targets[every])
