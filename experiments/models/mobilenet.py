"""MobileNetV1 (Howard et al. 2017) and V2 (Sandler et al. 2018), padded as in Keras."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import HALF, Backbone
from experiments.models.primitives import (
    batch_norm,
    depthwise_conv,
    normalise,
    pointwise_conv,
)

EPSILON = 1e-3

# Features and stride of every block.
V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Expansion, features, how many blocks, and the stride of the first one.
V2_STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


class SeparableBlock(nnx.Module):
    """MobileNetV1's block: a depthwise convolution, and a pointwise one if any."""

    def __init__(
        self,
        features_in: int,
        features: int | None,
        stride: int,
        *,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.dw = depthwise_conv(features_in, stride, use_bias=False, **options)
        self.dw_bn = batch_norm(features_in, epsilon=EPSILON, **options)
        self.pw = self.pw_bn = nnx.data(None)
        if features:
            self.pw = pointwise_conv(features_in, features, use_bias=False, **options)
            self.pw_bn = batch_norm(features, epsilon=EPSILON, **options)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        x = nnx.relu6(normalise(self.dw_bn, self.dw(x), train))
        if self.pw is None:
            return x
        return nnx.relu6(normalise(self.pw_bn, self.pw(x), train))


class MobileNetV1(Backbone):
    """MobileNetV1 with batch norm, up to its last depthwise convolution.

    Args:
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    mean, std = HALF, HALF

    def __init__(self, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.family = "mobilenet-v1"
        self.dtype = jnp.dtype(dtype)
        self.conv1 = nnx.Conv(3, 32, (3, 3), strides=2, use_bias=False, **options)
        self.bn1 = batch_norm(32, epsilon=EPSILON, **options)
        blocks, features_in = [], 32
        for index, (features, stride) in enumerate(V1_BLOCKS):
            last = index == len(V1_BLOCKS) - 1
            blocks.append(
                SeparableBlock(
                    features_in, None if last else features, stride, **options
                )
            )
            features_in = features
        self.blocks = nnx.List(blocks)
        self.width = features_in

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to 1024 features at stride 32."""
        x = self.conv1(self.standardise(images))
        x = nnx.relu6(normalise(self.bn1, x, train))
        for block in self.blocks:
            x = block(x, train=train)
        return x


class InvertedResidual(nnx.Module):
    """MobileNetV2's block, its batch norm folded in: wide inside, linear at the end.

    Beside it goes a shortcut if the shapes allow.
    """

    def __init__(
        self,
        features_in: int,
        features: int,
        stride: int,
        expansion: int,
        *,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        inner = expansion * features_in
        self.expand = nnx.data(
            pointwise_conv(features_in, inner, **options) if expansion > 1 else None
        )
        self.dw = depthwise_conv(inner, stride, **options)
        self.project = pointwise_conv(inner, features, **options)
        self.residual = stride == 1 and features_in == features

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(n, h, w, features_in)` to `(n, h / stride, w / stride, features)`."""
        y = x if self.expand is None else nnx.relu6(self.expand(x))
        y = self.project(nnx.relu6(self.dw(y)))
        return x + y if self.residual else y


class MobileNetV2(Backbone):
    """MobileNetV2 of width 1, batch norm folded into kernels and biases.

    Args:
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    mean, std = HALF, HALF

    def __init__(self, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.family = "mobilenet-v2"
        self.dtype = jnp.dtype(dtype)
        self.conv1 = nnx.Conv(3, 32, (3, 3), strides=2, **options)
        blocks, features_in = [], 32
        for expansion, features, depth, stride in V2_STAGES:
            for index in range(depth):
                first = stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(features_in, features, first, expansion, **options)
                )
                features_in = features
        self.blocks = nnx.List(blocks)
        self.width = 1280
        self.conv_last = pointwise_conv(features_in, self.width, **options)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to 1280 features at stride 32."""
        x = nnx.relu6(self.conv1(self.standardise(images)))
        for block in self.blocks:
            x = block(x)
        return nnx.relu6(self.conv_last(x))
