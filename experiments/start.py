"""Where fine-tuning begins: a pre-trained model with a new, probed or loaded head.

A probed head is a linear one that is fitted to the trunk's features, once.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import FrozenConfigDict

from experiments import models, records
from experiments.configs.base import RANDOM, Config
from experiments.configs.values import SettingError
from experiments.data import DataError
from experiments.data.batches import Sizes
from experiments.data.examples import MOST_BYTES
from experiments.data.sources import Source, data_folder, open_source
from experiments.methods import METHODS, Model, Params
from experiments.models import weights
from experiments.models.backbone import DECODERS
from experiments.tasks import TARGETS, task_of
from experiments.tasks.task import Head

HEAD, DECODER = "^head/", "^decoder/"

Origin = Any  # a FrozenConfigDict, of `origin`
Stage = Callable[[str], contextlib.AbstractContextManager[None]]


def origin(config: Config) -> Origin:
    """The options that a start depends on; hashable, and named as they are there."""
    part = config.to_dict()
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

    @property
    def model(self) -> Model:
        """The params and the statistics."""
        return self.params, self.statistics


class Shared:
    """What the runs of a sweep have in common, each made when it is first asked for.

    Attributes:
      figures: of starts before they are fine-tuned, by what they depend on.
      stage: shows what goes on, as `experiments.progress.Display.stage` does.
    """

    def __init__(self, stage: Stage = contextlib.nullcontext):
        self.stage = stage
        self.figures: dict[Any, dict[str, Any]] = {}
        self._opened = functools.lru_cache(maxsize=32)(open_source)
        self._pretrained = functools.lru_cache(maxsize=2)(self._load)
        self.start = functools.lru_cache(maxsize=2)(self._start)
        self.probing = functools.lru_cache(maxsize=2)(self._probing)

    def source(self, spec: str, config: Any, *, to_learn: bool = True) -> Source:
        """A data set by its spec; of the configuration `data` and `io` are read.

        At the end of a spec `#4:6` takes the images of the classes 4 and 5 alone. To
        learn from, `data.share` of the images are there, to test on all.
        """
        io, (whole, _, part) = config.io, spec.partition("#")
        most_bytes = MOST_BYTES if io.cache else 0
        source = self._opened(whole, io.data_dir, io.source_dir, TARGETS, most_bytes)
        if part or config.data.classes:
            source = source.of_classes(config.data.classes, part)
        if to_learn:
            source = source.share(config.data.share, config.data.share_seed)
        return source

    def _load(self, origin: Origin) -> Start:
        """The model with its weights, before a head is fitted to its features."""
        train = self.source(origin.data.train, origin)
        with self.stage("loading the weights"):
            return _pretrained(origin, train)

    def _start(self, origin: Origin) -> Start:
        """The model that fine-tuning begins with."""
        train = self.source(origin.data.train, origin)
        start = self._pretrained(origin)
        if origin.model.start != "probed head":
            return start
        from experiments.probing import best_head  # few starts are probed

        with self.stage("probing"):
            seen = self.probing(origin)
            head = best_head(seen, task_of(train.target), train.num_classes)
        return with_head(start, head)

    def _probing(self, origin: Origin) -> Any:
        """The features of the training and validation images, before fine-tuning."""
        from experiments.probing import EXAMPLES, Probing, extract, thinned

        data = origin.data
        train, validation = (
            self.source(spec, origin) for spec in (data.train, data.validation)
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


def with_head(start: Start, head: Head) -> Start:
    """The start with this head, which counts as pre-trained."""
    old = start.params["head"]
    fitted = {
        "kernel": np.reshape(head.kernel, old["kernel"].shape),
        "bias": np.reshape(head.bias, old["bias"].shape),
    }
    new = tuple(name for name in start.new if name != HEAD)
    return start._replace(params=start.params | {"head": fitted}, new=new)


# ---- Pre-trained weights -------------------------------------------------------------


def _pretrained(origin: Origin, train: Source) -> Start:
    """The model with its weights; the head is zero unless it is loaded."""
    path = None if origin.io.weights == RANDOM else origin.io.weights
    outputs = task_of(train.target).outputs(train.num_classes)
    create = functools.partial(_created, origin, train, outputs)
    # Where weights are loaded, none need to be drawn by a compiled function.
    model: Any = nnx.jit(create)() if path is None else create()
    run, grown = path and weights.located(path), False
    if path and run and not run.is_dir():
        models.load(model, path)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params, statistics = map(nnx.to_pure_dict, (params, rest))
    if run and run.is_dir():
        ours, like = params["head"], (params, statistics)
        params, statistics = records.load_pretrained(run, like)
        if params["head"]["bias"].shape != ours["bias"].shape:
            # It told other classes apart, or some of these.
            grown = records.begins_with_those_of(run, origin.data.classes)
            head = jax.tree.map(_grown, params["head"], ours) if grown else ours
            params = params | {"head": head}
    loaded = origin.model.start == "loaded head"
    if not loaded:
        params = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    elif not np.any(params["head"]["kernel"]):
        raise weights.WeightsError(
            f"{path} has no head for the {train.num_classes} classes of {train.name},"
            " so there is no loaded head. Use the start 'new head' or 'probed head'."
        )
    new = () if loaded and not grown else (HEAD,)
    if not loaded and "decoder" in params:
        new = (HEAD, DECODER)
    start = Start(graphdef, params, statistics, models.layer_names(model), new)
    if origin.model.start == "zero-shot head":
        return with_head(start, _zero_shot_head(origin, train, model))
    return start


def _zero_shot_head(origin: Origin, train: Source, model: Any) -> Head:
    """A head for these classes, made from what the weights have beside the trunk.

    `model` is that of the run.

    Raises:
      SettingError, WeightsError: it cannot be made.
    """
    from experiments.models import zero_shot  # few starts are

    options, names, path = origin.model, train.class_names, origin.io.weights
    try:
        if not options.head_rows:
            kernel = zero_shot.text_head(
                path,
                _texts(options.class_texts, zero_shot.IMAGENET_NAMES)
                or [name.replace("_", " ") for name in names],
                _texts(options.templates, None) or zero_shot.IMAGENET_TEMPLATES,
                tokenizer=options.tokenizer,
                quick=options.options.get("quick", True),
                cache=data_folder(origin.io.data_dir) / "text_heads",
            )
            if kernel.shape[-1] != len(names):
                raise ValueError(
                    f"model.class_texts: expected {len(names)} lines, one for each"
                    f" class of {train.name}, got {kernel.shape[-1]}"
                )
            return Head(kernel, np.zeros(kernel.shape[-1], np.float32))
        head = _published_head(origin, train, model)
        return Head(*zero_shot.rows(*head, options.head_rows, names))
    except weights.WeightsError:
        raise
    except (ValueError, OSError) as error:
        raise SettingError(f"model.start: no zero-shot head: {error}.") from error


def _texts(file: str | None, imagenet: Any) -> Any:
    """The file that an option names."""
    return imagenet if file == "imagenet" else file and pathlib.Path(file)


def _published_head(origin: Origin, train: Source, model: Any) -> Head:
    """The head that the weights have, of whatever classes."""
    path = origin.io.weights
    run = weights.located(path)
    if run.is_dir():
        _, *parts = nnx.split(model, nnx.Param, ...)
        params, statistics = map(nnx.to_pure_dict, parts)
        like = params, statistics
        return Head(**records.load_pretrained(run, like)[0]["head"])
    shapes = weights.shapes_in(path, model.backbone.tables)
    if "head/bias" not in shapes:
        raise weights.WeightsError(
            f"{path} has no head, so it has no rows for a zero-shot head."
        )
    model = _created(origin, train, shapes["head/bias"][0])
    weights.load_weights(model, path)
    return Head(np.array(model.head.kernel[...]), np.array(model.head.bias[...]))


def _grown(old: np.ndarray, new: Any) -> np.ndarray:
    """An array of a head with zeros for the classes that it lacks."""
    return np.pad(old, [(0, n - o) for o, n in zip(old.shape, new.shape, strict=True)])


def _created(origin: Origin, train: Source, outputs: int) -> Any:
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
    head = task_of(train.target).head
    if origin.model.decoder != "linear":
        if not train.target.dense:
            raise SettingError(
                f"model.decoder: {train.name} has no target a pixel; expected 'linear',"
                f" got {origin.model.decoder!r}."
            )
        head = DECODERS[origin.model.decoder]
    try:
        return models.create(
            name,
            outputs,
            head=head,
            rngs=nnx.Rngs(origin.seed),
            dtype=jnp.dtype(origin.model.dtype),
            **options,
        )
    except (TypeError, ValueError) as error:
        raise SettingError(f"model.options: {name}: {error}") from error
