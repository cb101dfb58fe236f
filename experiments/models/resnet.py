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
    pointwise_conv,
)
from experiments.models.naming import (
    Rule,
    Table,
    torch_batch_norm,
    torch_conv,
    torch_linear,
)

EPSILON = 1e-5
PUBLISHED_STAGES = 4

# ---- What the arrays of published weights are called -------------------------------

_BLOCK = r"layer\d\.\d+"

TORCHVISION = Table(
    "a ResNet as torchvision and timm name it",
    [
        *torch_conv(rf"((?:{_BLOCK}\.)?conv\d)", r"backbone/\1"),
        *torch_batch_norm(rf"((?:{_BLOCK}\.)?bn\d)", r"backbone/\1"),
        *torch_conv(rf"({_BLOCK}\.downsample)\.0", r"backbone/\1"),
        *torch_batch_norm(rf"({_BLOCK}\.downsample)\.1", r"backbone/\1_bn"),
        *torch_linear("fc", "head"),
    ],
)


def _transformers() -> list[Rule]:
    """Stages and convolutions count from 0 there, and from 1 here."""
    stem = r"(?:resnet\.)?embedder\.embedder"
    rules = [
        *torch_conv(rf"{stem}\.convolution", "backbone/conv1"),
        *torch_batch_norm(rf"{stem}\.normalization", "backbone/bn1"),
        *torch_linear(r"classifier\.1", "head"),
    ]
    for stage in range(4):
        block = rf"(?:resnet\.)?encoder\.stages\.{stage}\.layers\.(\d+)"
        path = rf"backbone/layer{stage + 1}/\1"
        for conv in range(3):
            layer = rf"{block}\.layer\.{conv}"
            rules += torch_conv(rf"{layer}\.convolution", f"{path}/conv{conv + 1}")
            rules += torch_batch_norm(
                rf"{layer}\.normalization", f"{path}/bn{conv + 1}"
            )
        shortcut = rf"{block}\.shortcut"
        rules += torch_conv(rf"{shortcut}\.convolution", f"{path}/downsample")
        rules += torch_batch_norm(
            rf"{shortcut}\.normalization", f"{path}/downsample_bn"
        )
    return rules


TRANSFORMERS = Table("a ResNet as transformers names it", _transformers())

# ---- The network -------------------------------------------------------------------


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(
        self, features_in: int, features: int, stride: int, *, norm: bool, **options
    ):
        layer = _Layers(norm, options)
        self.conv1 = layer.conv(features_in, features, 3, stride)
        self.bn1 = layer.norm(features)
        self.conv2 = layer.conv(features, features, 3)
        self.bn2 = layer.norm(features)
        self.downsample, self.downsample_bn = layer.shortcut(
            features_in, features, stride
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        y = nnx.relu(normalise(self.bn1, self.conv1(x), train))
        y = normalise(self.bn2, self.conv2(y), train)
        return nnx.relu(y + _shortcut(self, x, train))


class Bottleneck(nnx.Module):
    """A 3 x 3 convolution between two 1 x 1 ones, beside a shortcut."""

    expansion = 4

    def __init__(
        self, features_in: int, features: int, stride: int, *, norm: bool, **options
    ):
        layer = _Layers(norm, options)
        inner = features // self.expansion
        self.conv1 = layer.conv(features_in, inner, 1)
        self.bn1 = layer.norm(inner)
        self.conv2 = layer.conv(inner, inner, 3, stride)
        self.bn2 = layer.norm(inner)
        self.conv3 = layer.conv(inner, features, 1)
        self.bn3 = layer.norm(features)
        self.downsample, self.downsample_bn = layer.shortcut(
            features_in, features, stride
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        y = nnx.relu(normalise(self.bn1, self.conv1(x), train))
        y = nnx.relu(normalise(self.bn2, self.conv2(y), train))
        y = normalise(self.bn3, self.conv3(y), train)
        return nnx.relu(y + _shortcut(self, x, train))


class ResNet(Backbone):
    """A stem of stride 4 and stages of residual blocks, all but the first of stride 2.

    Args:
      block: `BasicBlock` or `Bottleneck`.
      depths: how many blocks each stage has.
      norm: whether batch norm follows every convolution. Without, convolutions have a
        bias, as they do once batch norm is folded into them.
      stem: features of the first convolution.
      widths: features of each stage; by default twice those of the stage before.
      mean: of each colour channel, in units of 255; by default ImageNet's.
      std: the same.
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    tables = (TORCHVISION, TRANSFORMERS)

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        norm: bool = True,
        stem: int = 64,
        widths: Sequence[int] | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"norm": norm, "dtype": dtype, "rngs": rngs}
        layer = _Layers(norm, {"dtype": dtype, "rngs": rngs})
        self.folded_epsilon = None if norm else EPSILON
        self.dtype = jnp.dtype(dtype)
        self.mean, self.std = mean, std
        self.conv1 = layer.conv(3, stem, 7, 2)
        self.bn1 = layer.norm(stem)
        self.num_stages = len(depths)
        features_in = stem
        for index, depth in enumerate(depths):
            features = widths[index] if widths else stem * block.expansion * 2**index
            stage = []
            for position in range(depth):
                stride = 2 if index and not position else 1
                stage.append(block(features_in, features, stride, **options))
                features_in = features
            setattr(self, f"layer{index + 1}", nnx.List(stage))
        self.width = features_in

    def leaves_out(self, path: str) -> bool:
        """A trunk has fewer stages than the four that are published."""
        later = range(self.num_stages + 1, PUBLISHED_STAGES + 1)
        return any(path.startswith(f"backbone/layer{stage}/") for stage in later)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to features at strides 4, 8, 16, ..."""
        x = self.conv1(self.standardise(images))
        x = max_pool(nnx.relu(normalise(self.bn1, x, train)))
        for index in range(self.num_stages):
            for block in getattr(self, f"layer{index + 1}"):
                x = block(x, train=train)
        return x


class _Layers:
    """Makes the convolutions and norms of one network."""

    def __init__(self, norm: bool, options: dict[str, Any]):
        self._norm, self._options = norm, options

    def conv(
        self, features_in: int, features: int, size: int, stride: int = 1
    ) -> nnx.Conv:
        options = {"use_bias": not self._norm, **self._options}
        if size == stride == 1:
            return pointwise_conv(features_in, features, **options)
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

    def shortcut(self, features_in: int, features: int, stride: int) -> tuple[Any, Any]:
        if stride == 1 and features_in == features:
            return nnx.data(None), nnx.data(None)
        return self.conv(features_in, features, 1, stride), self.norm(features)


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, train: bool) -> jax.Array:
    if block.downsample is None:
        return x
    return normalise(block.downsample_bn, block.downsample(x), train)


NETWORKS = {
    # Batch norm folded in, without the last stage: 256 features at stride 16.
    "resnet18-trunk": functools.partial(ResNet, BasicBlock, (2, 2, 2), norm=False),
    "resnet18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet18-nf": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2), norm=False),
    "resnet50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet50-nf": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), norm=False),
}
