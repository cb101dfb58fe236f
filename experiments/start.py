"""Where fine-tuning begins: a pre-trained model with a new, probed or loaded head.

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

from experiments import models, probe, records
from experiments.data import DataError
from experiments.data.sources import Source, open_source
from experiments.methods import Params
from experiments.models import weights
from experiments.placement import Placement
from experiments.views import View

STARTS = ("new head", "probed head", "loaded head")
RANDOM = "random"  # in place of a file of weights, for a pre-training
HEAD = "^head/"


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
      head: one of `STARTS`.
      train: the spec of the training set, which a probed head is fitted to.
      validation: the spec of the set that chooses among probed heads.
      folders: where both are.
      view: how their images are shown to the probe.
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
    view: View


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

    train: probe.Features
    validation: probe.Features


@functools.lru_cache(maxsize=32)
def opened(spec: str, folders: Folders) -> Source:
    """A data set by its spec."""
    source = open_source(spec, folders.data_dir, folders.source_dir)
    return source.cached() if folders.cache else source


@functools.lru_cache(maxsize=2)
def starting_point(origin: Origin) -> Start:
    """The model that fine-tuning begins with."""
    if origin.head != "probed head":
        return _pretrained(origin)
    features = probing(origin)
    classes = opened(origin.train, origin.folders).num_classes
    head, _ = probe.best(features.train, features.validation, classes)
    return with_head(_pretrained(origin), head)


@functools.lru_cache(maxsize=2)
def probing(origin: Origin) -> Probing:
    """The features of the training and validation images, before fine-tuning."""
    start, placement = _pretrained(origin), Placement()
    params, statistics = placement.replicated((start.params, start.statistics))

    def features(source: Source, limit: int = 0) -> probe.Features:
        view = origin.view._replace(limit=limit)
        return probe.extract(
            start.graphdef, params, statistics, source, view, placement
        )

    seen = opened(origin.train, origin.folders)
    train = features(seen, probe.EXAMPLES if seen.task == "classification" else 0)
    train = probe.thinned(train)
    if (found := len(np.unique(train.labels))) < 2:
        raise DataError(
            f"data.train: a head is probed on examples of at least two classes, got"
            f" {found} in {origin.train}."
        )
    return Probing(train, features(opened(origin.validation, origin.folders)))


def with_head(start: Start, head: probe.Head) -> Start:
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

    def create() -> nnx.Module:
        return models.create(
            origin.model,
            source.num_classes,
            task=source.task,
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
