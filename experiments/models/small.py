"""A small network for small images, such as digits of 16 x 16 pixels."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import Backbone
from experiments.models.layers import window_conv

FEATURES = (16, 32, 64)
HIDDEN = 128


class Small(Backbone):
    """Three 3 x 3 convolutions of stride 2 on grey images and a hidden layer; biased.

    The kernels of the convolutions are `(9 * c_in, c_out)`.
    No layer keeps statistics of the batch.
    """

    sized = True
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(
        self, *, image_size: int = 16, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        self.image_size = image_size  # pixels, a multiple of 8
        self.dtype = jnp.dtype(dtype)
        self.width = HIDDEN
        # A uniform start compiles several times as fast as the usual normal one.
        dense = functools.partial(
            nnx.Linear,
            kernel_init=nnx.initializers.he_uniform(),
            dtype=dtype,
            rngs=rngs,
        )
        self.conv1 = dense(9, FEATURES[0])
        self.conv2 = dense(9 * FEATURES[0], FEATURES[1])
        self.conv3 = dense(9 * FEATURES[1], FEATURES[2])
        self.hidden = dense((image_size // 8) ** 2 * FEATURES[2], HIDDEN)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to features `(n, h / 8, w / 8, 64)`."""
        del train
        x = self.standardise(images).mean(axis=-1, keepdims=True)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.relu(window_conv(x, conv))
        return x

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, image_size, image_size, 3)` to `(n, HIDDEN)` in float32."""
        x = self.feature_map(images, train=train)
        return nnx.relu(self.hidden(x.reshape(len(x), -1))).astype(jnp.float32)


NETWORKS = {"small": Small}
