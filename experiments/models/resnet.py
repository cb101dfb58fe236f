"""ResNet (He et al. 2016, stride in the 3 x 3 convolution), with batch norm or none."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from experiments.models.layers import (
    batch_norm,
    max_pool,
    normalise,
    patch_conv,
)
from experiments.models.naming import TORCH, published

EPSILON = 1e-5
PUBLISHED_STAGES = 4
EXPANSION = 4  # of a bottleneck's features over its inner ones

# ---- What the arrays of published weights are called -------------------------------

TRUNK = {
    "conv1": "conv1",
    "bn1": "bn1",
    "layer#.#.conv#": "layer#/#/conv#",
    "layer#.#.bn#": "layer#/#/bn#",
    "layer#.#.downsample.0": "layer#/#/downsample",
    "layer#.#.downsample.1": "layer#/#/downsample_bn",
}
TORCHVISION = published(
    "a ResNet as torchvision and timm name it", TORCH, TRUNK | {"fc": "head"}
)
# Its fc is the projector, which like the predictor served pre-training alone.
MOCO = published(
    "a ResNet of MoCo v3",
    TORCH,
    TRUNK,
    prefix=r"base_encoder\.",
    unused=r"(?:momentum_encoder|predictor|base_encoder\.fc)\..*",
)


def _places() -> dict[str, str]:
    """Stages and convolutions count from 0 there, and from 1 here."""
    places = {
        "embedder.embedder.convolution": "conv1",
        "embedder.embedder.normalization": "bn1",
        "classifier.1": "head",
    }
    for stage in range(PUBLISHED_STAGES):
        block, path = f"encoder.stages.{stage}.layers.#", f"layer{stage + 1}/#"
        places[f"{block}.shortcut.convolution"] = f"{path}/downsample"
        places[f"{block}.shortcut.normalization"] = f"{path}/downsample_bn"
        for conv in range(3):
            layer = f"{block}.layer.{conv}"
            places[f"{layer}.convolution"] = f"{path}/conv{conv + 1}"
            places[f"{layer}.normalization"] = f"{path}/bn{conv + 1}"
    return places


TRANSFORMERS = published(
    "a ResNet as transformers names it", TORCH, _places(), prefix=r"(?:resnet\.)?"
)

# ---- The network -------------------------------------------------------------------


class Block(nnx.Module):
    """Two convolutions of 3 x 3 beside a shortcut, or one between two of 1 x 1."""

    def __init__(
        self,
        features_in: int,
        features: int,
        stride: int,
        *,
        bottleneck: bool,
        layers: "_Layers",
    ):
        inner = features // EXPANSION if bottleneck else features
        wider = stride > 1 or features_in != features
        self.pool = stride if layers.pools else 1
        stride //= self.pool
        plan = [(inner, 3, stride), (features, 3, 1)]
        if bottleneck:
            plan = [(inner, 1, 1), (inner, 3, stride), (features, 1, 1)]
        self.length = len(plan)
        width = features_in
        for index, (wanted, size, step) in enumerate(plan, 1):
            setattr(self, f"conv{index}", layers.conv(width, wanted, size, step))
            setattr(self, f"bn{index}", layers.norm(wanted))
            width = wanted
        self.downsample = self.downsample_bn = nnx.data(None)
        if wider:
            self.downsample = layers.conv(features_in, features, 1, stride)
            self.downsample_bn = layers.norm(features)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        y = x
        for index in range(1, self.length + 1):
            y = nnx.relu(y) if index > 1 else y
            y = mean_pool(y, self.pool) if index == self.length else y
            conv, norm = getattr(self, f"conv{index}"), getattr(self, f"bn{index}")
            y = normalise(norm, conv(y), train)
        if self.downsample is not None:
            x = self.downsample(mean_pool(x, self.pool))
            x = normalise(self.downsample_bn, x, train)
        return nnx.relu(y + x)


def mean_pool(x: jax.Array, side: int) -> jax.Array:
    """Means over squares of a side; what fills none at the end is left out."""
    if side == 1:
        return x
    n, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x[:, : rows * side, : columns * side]
    return x.reshape(n, rows, side, columns, side, channels).mean((2, 4))


class ResNet(Backbone):
    """A stem of stride 4 and stages of residual blocks, all but the first of stride 2.

    Args:
      depths: how many blocks each stage has.
      bottleneck: whether blocks are of three convolutions and four times as wide.
      norm: whether batch norm follows every convolution. Without, convolutions have a
        bias, as they do once batch norm is folded into them.
      stem: features of the first convolution.
      widths: features of each stage; by default twice those of the stage before.
      mean: of each colour channel, in units of 255; by default ImageNet's.
      std: the same.
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    tables = (TORCHVISION, TRANSFORMERS, MOCO)
    pools = False  # whether means over squares take the place of strides

    def __init__(
        self,
        depths: Sequence[int],
        *,
        bottleneck: bool = False,
        norm: bool = True,
        stem: int = 64,
        widths: Sequence[int] | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers = _Layers(norm, self.pools, {"dtype": dtype, "rngs": rngs})
        self.folded_epsilon = None if norm else EPSILON
        self.dtype = jnp.dtype(dtype)
        self.mean, self.std = mean, std
        self._add_stem(stem, layers)
        self.num_stages, self.width = len(depths), stem
        first = stem * (EXPANSION if bottleneck else 1)
        for index, depth in enumerate(depths):
            features = widths[index] if widths else first * 2**index
            stage = []
            for position in range(depth):
                stride = 2 if index and not position else 1
                block = Block(
                    *(self.width, features, stride),
                    bottleneck=bottleneck,
                    layers=layers,
                )
                stage.append(block)
                self.width = features
            setattr(self, f"layer{index + 1}", nnx.List(stage))

    def _add_stem(self, features: int, layers: "_Layers") -> None:
        self.conv1, self.bn1 = layers.conv(3, features, 7, 2), layers.norm(features)

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        return max_pool(nnx.relu(normalise(self.bn1, self.conv1(x), train)))

    def leaves_out(self, path: str) -> bool:
        """A trunk has fewer stages than the four that are published."""
        later = range(self.num_stages + 1, PUBLISHED_STAGES + 1)
        return any(path.startswith(f"backbone/layer{stage}/") for stage in later)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to features at strides 4, 8, 16, ..."""
        x = self._stem(self.standardise(images), train)
        for index in range(self.num_stages):
            for block in getattr(self, f"layer{index + 1}"):
                x = block(x, train=train)
        return x


class _Layers:
    """Makes the convolutions and norms of one network; `pools` is of its blocks."""

    def __init__(self, norm: bool, pools: bool, options: dict[str, Any]):
        self._norm, self.pools, self._options = norm, pools, options

    def conv(
        self, features_in: int, features: int, size: int, stride: int = 1
    ) -> nnx.Conv:
        options = {"use_bias": not self._norm, **self._options}
        if size == stride == 1:
            return patch_conv(features_in, features, 1, **options)
        return nnx.Conv(
            features_in,
            features,
            (size, size),
            strides=stride,
            padding=size // 2,  # torch's; SAME would pad less at the start
            **options,
        )

    def norm(self, features: int) -> Any:
        if not self._norm:
            return nnx.data(None)
        return batch_norm(features, epsilon=EPSILON, **self._options)


NETWORKS = {
    # Batch norm folded in, without the last stage: 256 features at stride 16.
    "resnet18-trunk": functools.partial(ResNet, depths=(2, 2, 2), norm=False),
    "resnet18": functools.partial(ResNet, depths=(2, 2, 2, 2)),
    "resnet18-nf": functools.partial(ResNet, depths=(2, 2, 2, 2), norm=False),
    "resnet50": functools.partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True),
    "resnet50-nf": functools.partial(
        ResNet, depths=(3, 4, 6, 3), bottleneck=True, norm=False
    ),
}
