"""The models that are trained; a new one is one line of `MODELS`."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks import trunk_weights
from benchmarks.contenders import Batch, Params

CLASSES = 10

# A uniform start compiles several times as fast as the usual normal one.
UNIFORM = nnx.initializers.lecun_uniform()
Conv = functools.partial(nnx.Conv, kernel_init=UNIFORM)
Linear = functools.partial(nnx.Linear, kernel_init=UNIFORM)


class ConvNet(nnx.Module):
    """Three 3 x 3 convolutions, each halved by max pooling, and a head."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = Conv(3, 32, (3, 3), rngs=rngs)
        self.conv2 = Conv(32, 64, (3, 3), rngs=rngs)
        self.conv3 = Conv(64, 128, (3, 3), rngs=rngs)
        self.head = Linear(128, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images `(n, side, side, 3)` to logits `(n, CLASSES)`."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return self.head(x.mean(axis=(1, 2)))


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions beside a shortcut; batch norm is folded into both."""

    def __init__(self, features_in: int, features: int, stride: int, rngs: nnx.Rngs):
        conv = functools.partial(Conv, padding=1, rngs=rngs)
        self.conv1 = conv(features_in, features, (3, 3), strides=stride)
        self.conv2 = conv(features, features, (3, 3))
        self.downsample = nnx.data(
            Conv(features_in, features, (1, 1), strides=stride, rngs=rngs)
            if stride > 1
            else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return nnx.relu(self.conv2(nnx.relu(self.conv1(x))) + shortcut)


class ResNet18Trunk(nnx.Module):
    """ResNet-18 up to its third stage, with a head on the mean of 256 features."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = Conv(3, 64, (7, 7), strides=2, padding=3, rngs=rngs)

        def stage(features_in: int, features: int, stride: int) -> nnx.List:
            first = BasicBlock(features_in, features, stride, rngs)
            return nnx.List([first, BasicBlock(features, features, 1, rngs)])

        self.layer1 = stage(64, 64, 1)
        self.layer2 = stage(64, 128, 2)
        self.layer3 = stage(128, 256, 2)
        self.head = Linear(256, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images `(n, side, side, 3)` to logits `(n, CLASSES)`."""
        x = nnx.relu(self.conv1(x))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # nothing is below 0 here
        x = nnx.max_pool(x, (3, 3), strides=(2, 2))
        for block in (*self.layer1, *self.layer2, *self.layer3):
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


class EncoderBlock(nnx.Module):
    """Self-attention and a hidden layer of four times the width, normalised before."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            heads, width, decode=False, kernel_init=UNIFORM, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.hidden = Linear(width, 4 * width, rngs=rngs)
        self.out = Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `(n, length, width)` to as many."""
        x = x + self.attention(self.norm1(x))
        return x + self.out(nnx.gelu(self.hidden(self.norm2(x))))


class ViTTiny(nnx.Module):
    """ViT-Ti/16: 12 blocks of width 192 with 3 heads, and a class token."""

    def __init__(self, side: int, *, rngs: nnx.Rngs):
        width, patches = 192, (side // 16) ** 2
        self.patches = Conv(3, width, (16, 16), strides=16, rngs=rngs)
        self.cls = nnx.Param(jnp.zeros((1, 1, width)))
        uniform = nnx.initializers.uniform(0.02)
        self.pos_embed = nnx.Param(uniform(rngs.params(), (1, patches + 1, width)))
        self.blocks = nnx.List([EncoderBlock(width, 3, rngs) for _ in range(12)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images `(n, side, side, 3)` to logits `(n, CLASSES)`."""
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([cls, x], axis=1) + self.pos_embed[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Model(NamedTuple):
    """A network, the images it sees, and how many steps make a block of timing."""

    label: str
    make: Callable[[nnx.Rngs], nnx.Module]
    side: int  # of the images, in pixels
    steps: int  # so that a block takes some tenths of a second on two cores


MODELS = {
    "conv": Model("Conv net", lambda rngs: ConvNet(rngs=rngs), side=32, steps=3),
    "resnet": Model("ResNet-18 trunk", lambda r: ResNet18Trunk(rngs=r), 96, steps=1),
    "vit": Model("ViT-Ti/16", lambda rngs: ViTTiny(96, rngs=rngs), side=96, steps=1),
    # Five times the tokens on the same parameters; seconds a step on two cores.
    "vit-224": Model("ViT-Ti/16", lambda r: ViTTiny(224, rngs=r), side=224, steps=1),
}
STANDARD_MODELS = ("conv", "resnet", "vit")


def init_params(model: Model, seed: int, weights: pathlib.Path | None = None) -> Params:
    """Parameters as nested dicts, random but for the trunk that `weights` may hold.

    Args:
      model: one of `MODELS`.
      seed: of the random ones.
      weights: an npz of the ResNet-18 trunk; has no effect on other models.
    """

    def random() -> Params:
        return nnx.to_pure_dict(nnx.state(model.make(nnx.Rngs(seed)), nnx.Param))

    params = jax.jit(random)()  # one compilation, not one for each shape
    if weights is None or model is not MODELS["resnet"]:
        return params
    return trunk_weights.load(weights, params)


def logits(model: Model, params: Params, images: jax.Array) -> jax.Array:
    """The network as a function of its parameters: `(n, side, side, 3)` to logits."""
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: model.make(nnx.Rngs(0))))
    network: Any = nnx.merge(graphdef, params)
    return network(images)


def loss(model: Model, params: Params, batch: Batch) -> jax.Array:
    """Mean cross-entropy over a batch."""
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(
        logits(model, params, images), labels
    ).mean()
