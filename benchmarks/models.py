"""The models that are trained, those of the experiments; a new one is one line."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from benchmarks.contenders import Batch, Params
from experiments import models
from experiments.models.weights import load_weights

CLASSES = 10


class Model(NamedTuple):
    """A network, the images it sees, and how many steps make a block of timing."""

    label: str
    name: str  # a key of `experiments.models.MODELS`
    side: int  # of the images, in pixels
    steps: int  # so that a block takes some tenths of a second on two cores

    def create(self, seed: int = 0) -> Any:
        """The network with random weights and a head of zeros."""
        options: dict[str, Any] = {}
        if models.is_sized(self.name):
            options["image_size"] = self.side
        return models.create(self.name, CLASSES, rngs=nnx.Rngs(seed), **options)


MODELS = {
    "conv": Model("Conv net", "small", side=32, steps=3),
    "resnet": Model("ResNet-18 trunk", "resnet18-trunk", side=96, steps=1),
    "vit": Model("ViT-Ti/16", "vit-tiny-16", side=96, steps=1),
    # Five times the tokens on the same parameters; seconds a step on two cores.
    "vit-224": Model("ViT-Ti/16", "vit-tiny-16", side=224, steps=1),
}
STANDARD_MODELS = ("conv", "resnet", "vit")


def init_params(model: Model, seed: int, weights: pathlib.Path | None = None) -> Params:
    """Parameters as nested dicts, random but for the trunk that `weights` may hold.

    Args:
      model: one of `MODELS`.
      seed: of the random ones.
      weights: a file of ResNet-18's, as `experiments.models.weights` reads it; has no
        effect on other models.

    Raises:
      WeightsError: the file cannot be read, or holds another network.
    """
    network = model.create(seed)
    if weights is not None and model is MODELS["resnet"]:
        load_weights(network, weights)
    return nnx.to_pure_dict(nnx.state(network, nnx.Param))


@functools.cache
def _graphdef(model: Model) -> Any:
    return nnx.graphdef(nnx.eval_shape(model.create))


def logits(model: Model, params: Params, images: jax.Array) -> jax.Array:
    """The network as a function: `(n, side, side, 3)` of 0 to 255 to logits."""
    network: Any = nnx.merge(_graphdef(model), params)
    return network(images, train=True)


def loss(model: Model, params: Params, batch: Batch) -> jax.Array:
    """Mean cross-entropy over a batch."""
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(
        logits(model, params, images), labels
    ).mean()
