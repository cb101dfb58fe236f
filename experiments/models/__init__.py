"""Networks, written in flax nnx: a backbone by name, with a head for the task.

Examples:
  >>> from flax import nnx
  >>> from experiments import models
  >>> model = models.create("resnet18-trunk", 7, rngs=nnx.Rngs(0))
  >>> models.layer_names(model)[-2:]
  ('head/kernel', 'head/bias')
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np
from flax import nnx

from experiments.models import clip, mobilenet, resnet, small, swin, vit, weights
from experiments.models.backbone import Backbone, Classifier, drawn, layer_names

__all__ = ["MODELS", "create", "fitting", "is_sized", "layer_names", "load"]

MODELS: dict[str, Callable[..., Backbone]] = {
    name: network
    for module in (small, resnet, mobilenet, vit, swin, clip)
    for name, network in module.NETWORKS.items()
}
"""Backbones by name; each takes `rngs`, `dtype` and options of its own."""


def is_sized(name: str) -> bool:
    """Whether a backbone is made for one size of image, its option `image_size`."""
    make: Any = MODELS[name]
    return getattr(make, "func", make).sized


def create(
    name: str,
    outputs: int,
    *,
    head: Callable[..., nnx.Module] = Classifier,
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Module:
    """A backbone with random weights and a new head of zeros.

    Args:
      name: one of `MODELS`.
      outputs: how many numbers the head gives, such as one a class.
      head: `Classifier`, or one of `DECODERS`, of `experiments.models.backbone`.
      rngs: for the backbone's weights.
      options: of the backbone, as its class describes them: `dtype` in which it
        computes (parameters are float32), `image_size`, `drop_path`, `projected`, ...;
        those of its size make it smaller.

    Returns:
      `model(images, train=..., rng=...)` maps images `(n, h, w, 3)` of 0 to 255, in
      uint8 or float, to float32 `(n, outputs)` or, with a decoder, `(n, h, w,
      outputs)`; `rng` is a key by which paths are dropped, and without it none are.
      `model.features(images)` is what its head sees.

    Raises:
      ValueError: no such name.
    """
    if name not in MODELS:
        raise ValueError(f"name: expected one of {', '.join(MODELS)}, got {name!r}")

    def make(rngs: nnx.Rngs) -> nnx.Module:
        backbone = MODELS[name](rngs=rngs, **options)
        return head(backbone, outputs, rngs=rngs)

    key = rngs.params()
    if isinstance(key, jax.core.Tracer):  # someone traces or compiles this
        return make(rngs)
    seed = np.asarray(jax.random.key_data(key))
    return drawn(lambda: make(nnx.Rngs(0)), seed)


def fitting(path: str | pathlib.Path) -> list[str]:
    """The names of the backbones that a file of weights fits, by shapes only.

    Raises:
      WeightsError: the file cannot be had or read.
    """
    weights.contents(weights.located(path))  # of no file all would have to be tried
    shape = lambda name: nnx.eval_shape(lambda: create(name, 1, rngs=nnx.Rngs(0)))
    return [name for name in MODELS if weights.fits(shape(name), path)]


def load(model: Any, path: str | pathlib.Path) -> None:
    """Fills a model with weights, or says which of `MODELS` they fit.

    Raises:
      WeightsError: as of `experiments.models.weights.load_weights`.
    """
    try:
        weights.load_weights(model, path)
    except weights.WeightsError as error:
        names = [] if weights.fits(model, path) else fitting(path)
        hint = f" Try model.name={' or '.join(names)}." if names else ""
        raise weights.WeightsError(f"{error}{hint}") from error
