"""Where fine-tuning begins: a pre-trained model with a new, probed or loaded head.

A probed head is a linear one that is fitted to the trunk's features, once.

Everything here depends on an `Origin` alone and is made once, since a sweep begins in
the same place many times.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import models, records
from experiments.data import DataError
from experiments.data.batches import Sizes, evaluation_batches
from experiments.data.sources import Source, open_source
from experiments.methods import Params
from experiments.models import weights
from experiments.step import Placement
from experiments.tasks import TARGETS, task_of
from experiments.tasks.task import Features, Head

HEAD = "^head/"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)  # scikit-learn's C, less is stronger
EXAMPLES = 20_000  # at most, images or pixels of the training set, that a fit sees


class Folders(NamedTuple):
    """Where data is, and whether decoded images are kept in memory."""

    data_dir: str | None
    source_dir: str | None
    cache: bool


class Origin(NamedTuple):
    """What a start is made from; hashable.

    Attributes:
      model: a key of `experiments.models.MODELS`.
      options: of that model, as pairs of name and value.
      weights: a file of pre-trained ones, or the folder of a finished run; `None` for
        random ones.
      seed: of the random ones; 0 where `weights` are given.
      dtype: of the computation.
      head: "new head", "probed head" or "loaded head".
      train: the spec of the training set, which a probed head is fitted to.
      validation: the spec of the set that chooses among probed heads.
      folders: where both are.
      sizes: of their images, as the probe sees them.
    """

    model: str
    options: tuple[tuple[str, Any], ...]
    weights: str | None
    seed: int
    dtype: str
    head: str
    train: str
    validation: str
    folders: Folders
    sizes: Sizes


class Start(NamedTuple):
    """A model as plain trees.

    Attributes:
      graphdef: the model without its arrays; hashable.
      params: nested dicts of float32 arrays.
      statistics: of batch norms; an empty dict without.
      layers: paths of the params, from the input to the head.
      new: regular expressions of the params that have no pre-trained value.
    """

    graphdef: nnx.GraphDef
    params: Params
    statistics: Params
    layers: tuple[str, ...]
    new: tuple[str, ...]


class Probing(NamedTuple):
    """The features that heads are fitted to, and those that choose among heads."""

    train: Features
    validation: Features


@functools.lru_cache(maxsize=32)
def opened(spec: str, folders: Folders) -> Source:
    """A data set by its spec."""
    source = open_source(spec, folders.data_dir, folders.source_dir, TARGETS)
    return source.cached() if folders.cache else source


@functools.lru_cache(maxsize=2)
def starting_point(origin: Origin) -> Start:
    """The model that fine-tuning begins with."""
    if origin.head != "probed head":
        return _pretrained(origin)
    return with_head(_pretrained(origin), best_head(origin))


def best_head(origin: Origin) -> Head:
    """The head of the strength that is best on the validation set.

    Of equals the strongest penalty wins.
    """
    source, features = opened(origin.train, origin.folders), probing(origin)
    task = task_of(source.target)
    outputs = task.outputs(source.num_classes)
    heads = [task.probe.fit(features.train, outputs, c) for c in STRENGTHS]
    return max(heads, key=lambda head: task.probe.score(head, features.validation))


@functools.lru_cache(maxsize=2)
def probing(origin: Origin) -> Probing:
    """The features of the training and validation images, before fine-tuning."""
    start, seen = _pretrained(origin), opened(origin.train, origin.folders)
    # An image of a dense target gives many examples.
    limit = None if seen.target.dense else EXAMPLES
    train = thinned(extract(start, seen, origin.sizes._replace(limit=limit)))
    try:
        task_of(seen.target).probe.check(train)
    except ValueError as error:
        raise DataError(f"data.train: {error} in {origin.train}.") from error
    validation = opened(origin.validation, origin.folders)
    return Probing(train, extract(start, validation, origin.sizes))


@functools.partial(jax.jit, static_argnames="graphdef")
def _features(
    graphdef: nnx.GraphDef, params: Params, statistics: Params, images: jax.Array
) -> jax.Array:
    model: Any = nnx.merge(graphdef, params, statistics)
    return model.features(images, train=False)


def extract(start: Start, source: Source, sizes: Sizes) -> Features:
    """The features of a data set, as at evaluation: one row an image, or a pixel.

    Of a feature map every pixel takes the target of the image pixel at its centre;
    those that do not count are left out.
    """
    task, placement = task_of(source.target), Placement()
    params, statistics = placement.replicated((start.params, start.statistics))
    inputs, targets = [], []
    for batch in evaluation_batches(source, sizes):
        placed = placement.batch(batch)
        features = _features(start.graphdef, params, statistics, placed["image"])
        features, mask = np.asarray(jax.device_get(features)), batch["mask"]
        values = batch[source.target.name]
        if source.target.dense:
            values = _centres(values, features.shape[1:3])
            values = values.reshape(len(mask), -1, *values.shape[3:])[mask]
            values = values.reshape(-1, *values.shape[2:])
        else:
            values = values[mask]
        inputs.append(features[mask].reshape(-1, features.shape[-1]))
        targets.append(values)
    values, outputs = np.concatenate(targets), task.outputs(source.num_classes)
    counts = task.probe.counts(values, outputs)
    return Features(np.concatenate(inputs)[counts], values[counts])


def _centres(fields: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Fields `(n, h, w, ...)` at the centres of a grid of `shape`."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(int)
        for cells, pixels in zip(shape, fields.shape[1:3], strict=True)
    )
    return fields[:, rows][:, :, columns]


def thinned(features: Features) -> Features:
    """At most `EXAMPLES` of them, drawn evenly."""
    count = len(features.targets)
    if count <= EXAMPLES:
        return features
    every = np.linspace(0, count - 1, EXAMPLES).astype(int)
    return Features(features.inputs[every], features.targets[every])


def with_head(start: Start, head: Head) -> Start:
    """The start with this head, which counts as pre-trained."""
    old = start.params["head"]
    fitted = {
        "kernel": np.reshape(head.kernel, old["kernel"].shape),
        "bias": np.reshape(head.bias, old["bias"].shape),
    }
    return start._replace(params=start.params | {"head": fitted}, new=())


def _pretrained(origin: Origin) -> Start:
    """The model with its weights; the head is zero unless it is loaded."""
    source = opened(origin.train, origin.folders)
    task = task_of(source.target)

    def create() -> nnx.Module:
        return models.create(
            origin.model,
            task.outputs(source.num_classes),
            head=task.head,
            rngs=nnx.Rngs(origin.seed),
            dtype=jnp.dtype(origin.dtype),
            **dict(origin.options),
        )

    # Where weights are loaded, none need to be drawn by a compiled function.
    model: Any = nnx.jit(create)() if origin.weights is None else create()
    from_run = origin.weights is not None and pathlib.Path(origin.weights).is_dir()
    if origin.weights is not None and not from_run:
        weights.load_weights(model, origin.weights)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params, statistics = map(nnx.to_pure_dict, (params, rest))
    if from_run:
        run = pathlib.Path(str(origin.weights))
        params, statistics = records.load_pretrained(run, (params, statistics))
    loaded = origin.head == "loaded head"
    if not loaded:
        params = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    elif not np.any(params["head"]["kernel"]):
        raise weights.WeightsError(
            f"{origin.weights} has no head for the {source.num_classes} classes of"
            f" {source.name}, so there is no loaded head. Use the start 'new head' or"
            " 'probed head'."
        )
    new = () if loaded else (HEAD,)
    return Start(graphdef, params, statistics, models.layer_names(model), new)
