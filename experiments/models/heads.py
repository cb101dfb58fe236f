"""Heads on a backbone: one prediction for an image, or one for each of its pixels."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import Backbone

# A new head starts at zero: it favours no class and passes no noise to the backbone.
ZEROS = nnx.initializers.zeros


class Classifier(nnx.Module):
    """A linear head on the pooled features."""

    def __init__(self, backbone: Backbone, num_classes: int, *, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = nnx.Linear(
            backbone.width,
            num_classes,
            kernel_init=ZEROS,
            dtype=backbone.dtype,
            rngs=rngs,
        )

    def features(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to `(n, width)`, as the head sees."""
        return self.backbone.pooled(images, train=train)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to float32 logits `(n, classes)`."""
        return self.head(self.features(images, train=train)).astype(jnp.float32)


class Segmenter(nnx.Module):
    """A 1 x 1 convolution on the feature map, enlarged to the size of the images."""

    def __init__(self, backbone: Backbone, num_classes: int, *, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = nnx.Conv(
            backbone.width,
            num_classes,
            (1, 1),
            kernel_init=ZEROS,
            dtype=backbone.dtype,
            rngs=rngs,
        )

    def features(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to the map `(n, h', w', width)`."""
        return self.backbone.feature_map(images, train=train)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images `(n, h, w, 3)` to float32 logits `(n, h, w, classes)`."""
        logits = self.head(self.features(images, train=train))
        shape = (*images.shape[:3], logits.shape[-1])
        return jax.image.resize(logits, shape, "bilinear").astype(jnp.float32)
