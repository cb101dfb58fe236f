"""The models that are trained, most of them the experiments'; a new one is one line."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.contenders import Batch, Params
from experiments import models
from experiments.models.backbone import Backbone, Classifier
from experiments.models.weights import load_weights

CLASSES = 10


class ConvNet(Backbone):
    """Three 3 x 3 convolutions, each halved by max pooling."""

    family, width, dtype = "conv", 128, jnp.dtype("float32")

    def __init__(self, *, rngs: nnx.Rngs):
        # A uniform start compiles several times as fast as the usual normal one.
        uniform = nnx.initializers.lecun_uniform()
        conv = functools.partial(
            nnx.Conv, kernel_size=(3, 3), kernel_init=uniform, rngs=rngs
        )
        self.conv1, self.conv2, self.conv3 = conv(3, 32), conv(32, 64), conv(64, 128)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, side, side, 3)` to features `(n, side / 8, side / 8, c)`."""
        del train
        x = self.standardise(images)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return x


class Model(NamedTuple):
    """A network, the images it sees, and how many steps make a block of timing."""

    label: str
    make: Callable[..., Any]  # of `rngs`; the head is zero
    side: int  # of the images, in pixels
    steps: int  # so that a block takes some tenths of a second on two cores


def conv_net(*, rngs: nnx.Rngs) -> Classifier:
    return Classifier(ConvNet(rngs=rngs), CLASSES, rngs=rngs)


def published(name: str, **options: Any) -> Callable[..., Any]:
    """Makes a network of `experiments.models.MODELS`."""
    return functools.partial(models.create, name, CLASSES, **options)


MODELS = {
    "conv": Model("Conv net", conv_net, side=32, steps=3),
    "resnet": Model("ResNet-18 trunk", published("resnet18-trunk"), side=96, steps=1),
    "vit": Model("ViT-Ti/16", published("vit-tiny-16", image_size=96), 96, steps=1),
    # Five times the tokens on the same parameters; seconds a step on two cores.
    "vit-224": Model("ViT-Ti/16", published("vit-tiny-16"), side=224, steps=1),
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
    network = model.make(rngs=nnx.Rngs(seed))
    if weights is not None and model is MODELS["resnet"]:
        load_weights(network, weights)
    return nnx.to_pure_dict(nnx.state(network, nnx.Param))


@functools.cache
def _graphdef(model: Model) -> Any:
    return nnx.graphdef(nnx.eval_shape(lambda: model.make(rngs=nnx.Rngs(0))))


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
