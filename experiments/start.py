"""Where fine-tuning begins: a pre-trained model with a new, probed or loaded head.

A probed head is a linear one that is fitted to the trunk's features, once.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import FrozenConfigDict

from experiments import models, records
from experiments.configs.base import RANDOM, Config, plain_dict
from experiments.configs.values import SettingError
from experiments.data import DataError
from experiments.data.batches import Sizes, evaluation_batches
from experiments.data.sources import Source, open_source
from experiments.methods import METHODS, Params
from experiments.models import weights
from experiments.step import Placement
from experiments.tasks import TARGETS, task_of
from experiments.tasks.task import Features, Head, Task

HEAD = "^head/"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)  # scikit-learn's C, less is stronger
EXAMPLES = 20_000  # at most, images or pixels of the training set, that a fit sees

Origin = Any  # a FrozenConfigDict, of `origin`


def origin(config: Config) -> Origin:
    """The options that a start depends on; hashable, and named as they are there."""
    part = plain_dict(config)
    data, io = part["data"], part["io"]
    for of_training in ("scale", "flip", "randaugment", "random_erasing"):
        del data[of_training]
    places = ("weights", "data_dir", "source_dir", "cache")
    if METHODS[config.method.name].probe_first:
        part["model"]["start"] = "probed head"
    return FrozenConfigDict(
        {
            "seed": config.seed if config.io.weights == RANDOM else 0,
            "data": data,
            "model": part["model"],
            "evaluation": {"batch_size": config.evaluation.batch_size},
            "io": {name: io[name] for name in places},
        }
    )


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


class Shared:
    """What the runs of a sweep have in common, each made when it is first asked for.

    Attributes:
      figures: of starts before they are fine-tuned, by what they depend on.
    """

    def __init__(self):
        self.figures: dict[Any, dict[str, Any]] = {}
        self._opened = functools.lru_cache(maxsize=32)(_opened)
        self._pretrained = functools.lru_cache(maxsize=2)(self._load)
        self.start = functools.lru_cache(maxsize=2)(self._start)
        self.probing = functools.lru_cache(maxsize=2)(self._probing)

    def source(self, spec: str, io: Any, data: Any = None) -> Source:
        """A data set by its spec, whole or as much as `data` says to take.

        `io` and `data` are groups of a configuration.
        """
        share = (data.share, data.share_seed) if data else (1.0, 0)
        return self._opened(spec, io.data_dir, io.source_dir, io.cache, *share)

    def _load(self, origin: Origin) -> Start:
        """The model with its weights, before a head is fitted to its features."""
        return _pretrained(
            origin, self.source(origin.data.train, origin.io, origin.data)
        )

    def _start(self, origin: Origin) -> Start:
        """The model that fine-tuning begins with."""
        train = self.source(origin.data.train, origin.io, origin.data)
        start = self._pretrained(origin)
        if origin.model.start != "probed head":
            return start
        head = best_head(self.probing(origin), task_of(train.target), train.num_classes)
        return with_head(start, head)

    def _probing(self, origin: Origin) -> Probing:
        """The features of the training and validation images, before fine-tuning."""
        data = origin.data
        train, validation = (
            self.source(spec, origin.io, data) for spec in (data.train, data.validation)
        )
        start = self._pretrained(origin)
        sizes = Sizes(origin.evaluation.batch_size, data.image_size, data.resize)
        # An image of a dense target gives many examples.
        limit = None if train.target.dense else EXAMPLES
        seen = thinned(extract(start, train, sizes._replace(limit=limit)))
        try:
            task_of(train.target).probe.check(seen)
        except ValueError as error:
            raise DataError(f"data.train: {error} in {data.train}.") from error
        return Probing(seen, extract(start, validation, sizes))


def _opened(
    spec: str,
    data_dir: str | None,
    source_dir: str | None,
    cache: bool,
    share: float,
    share_seed: int,
) -> Source:
    source = open_source(spec, data_dir, source_dir, TARGETS).share(share, share_seed)
    return source.cached() if cache else source


# ---- Heads ---------------------------------------------------------------------------


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


def extract(start: Start, source: Source, sizes: Sizes) -> Features:
    """The features of a data set, as at evaluation: one row an image, or a pixel.

    Of a feature map every pixel takes the target of the image pixel at its centre;
    those that do not count are left out.
    """
    task, placement = task_of(source.target), Placement()
    params, statistics = placement.replicated((start.params, start.statistics))
    vectors, targets = [], []
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
        vectors.append(features[mask].reshape(-1, features.shape[-1]))
        targets.append(values)
    values, outputs = np.concatenate(targets), task.outputs(source.num_classes)
    counts = task.probe.counts(values, outputs)
    return Features(np.concatenate(vectors)[counts], values[counts])


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
    return Features(features.vectors[every], features.targets[every])


def with_head(start: Start, head: Head) -> Start:
    """The start with this head, which counts as pre-trained."""
    old = start.params["head"]
    fitted = {
        "kernel": np.reshape(head.kernel, old["kernel"].shape),
        "bias": np.reshape(head.bias, old["bias"].shape),
    }
    return start._replace(params=start.params | {"head": fitted}, new=())


# ---- Pre-trained weights -------------------------------------------------------------


def _pretrained(origin: Origin, train: Source) -> Start:
    """The model with its weights; the head is zero unless it is loaded."""
    path = None if origin.io.weights == RANDOM else origin.io.weights
    create = functools.partial(_created, origin, train)
    # Where weights are loaded, none need to be drawn by a compiled function.
    model: Any = nnx.jit(create)() if path is None else create()
    from_run = path is not None and pathlib.Path(path).is_dir()
    if path is not None and not from_run:
        weights.load_weights(model, path)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params, statistics = map(nnx.to_pure_dict, (params, rest))
    if from_run:
        run = pathlib.Path(str(path))
        params, statistics = records.load_pretrained(run, (params, statistics))
    loaded = origin.model.start == "loaded head"
    if not loaded:
        params = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    elif not np.any(params["head"]["kernel"]):
        raise weights.WeightsError(
            f"{path} has no head for the {train.num_classes} classes of {train.name},"
            " so there is no loaded head. Use the start 'new head' or 'probed head'."
        )
    new = () if loaded else (HEAD,)
    return Start(graphdef, params, statistics, models.layer_names(model), new)


def _created(origin: Origin, train: Source) -> nnx.Module:
    """The model with random weights, made for the images where it is made for one size.

    Raises:
      SettingError: the model takes no such options, or no such images.
    """
    name, options = origin.model.name, dict(origin.model.options)
    if models.is_sized(name):
        size = tuple(origin.data.image_size)
        side = options.setdefault("image_size", size[0])
        if size != (side, side):
            raise SettingError(
                f"data.image_size: {name} takes square images, here of {side} pixels a"
                f" side; got {size}."
            )
    task = task_of(train.target)
    try:
        return models.create(
            name,
            task.outputs(train.num_classes),
            head=task.head,
            rngs=nnx.Rngs(origin.seed),
            dtype=jnp.dtype(origin.model.dtype),
            **options,
        )
    except (TypeError, ValueError) as error:
        raise SettingError(f"model.options: {name}: {error}") from error
