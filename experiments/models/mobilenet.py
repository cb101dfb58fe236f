"""MobileNetV1 (Howard et al. 2017), padded as in Keras."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import HALF, Backbone
from experiments.models.layers import (
    batch_norm,
    depthwise_conv,
    normalise,
    patch_conv,
)
from experiments.models.naming import KERAS, published

EPSILON = 1e-3

# Features and stride of every block.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)

# Blocks count from 1 there, and from 0 here.
PLACES = {"conv1": "conv1", "conv1_bn": "bn1"} | {
    f"conv_{layer}_{block + 1}{norm}": f"blocks/{block}/{layer}{norm}"
    for block in range(len(BLOCKS))
    for layer in ("dw", "pw")
    for norm in ("", "_bn")
}


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
            self.pw = patch_conv(features_in, features, 1, use_bias=False, **options)
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
    tables = (published("a MobileNetV1 as Keras names it", KERAS, PLACES),)

    def __init__(self, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.dtype = jnp.dtype(dtype)
        self.conv1 = nnx.Conv(3, 32, (3, 3), strides=2, use_bias=False, **options)
        self.bn1 = batch_norm(32, epsilon=EPSILON, **options)
        blocks, features_in = [], 32
        for index, (features, stride) in enumerate(BLOCKS):
            last = index == len(BLOCKS) - 1
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


# To the last depthwise convolution: 1024 features at stride 32.
NETWORKS = {"mobilenet-v1": MobileNetV1}
