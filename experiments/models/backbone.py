"""What every pre-trained network offers to a head."""

from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.naming import Table

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # as mean and deviation: pixels / 127.5 - 1


class Backbone(nnx.Module):
    """A network without its head; it standardises its input itself.

    Attributes:
      tables: what its arrays are called in the files that are published.
      width: how many features it gives.
      dtype: in which it computes; parameters stay float32.
      mean: of each colour channel, in units of 255.
      std: the same.
      sized: whether it is made for one size of image, its option `image_size`.
      folded_epsilon: of the batch norms that are folded into its kernels, if they are.
    """

    tables: ClassVar[Sequence[Table]] = ()
    width: int
    dtype: jnp.dtype
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    sized: bool = False
    folded_epsilon: float | None = None

    def named_by(self) -> Sequence[Table]:
        """Those of the tables whose files hold this very network."""
        return self.tables

    def leaves_out(self, path: str) -> bool:
        """Whether a parameter is of a part of the published network that this lacks."""
        del path
        return False

    def standardise(self, images: jax.Array) -> jax.Array:
        """Maps pixels of 0 to 255, of any dtype, to the network's range and dtype."""
        shape = (1,) * (images.ndim - 1) + (3,)
        scale = 1 / (255 * jnp.array(self.std)).reshape(shape)
        shift = (jnp.array(self.mean) / jnp.array(self.std)).reshape(shape)
        return (images.astype(jnp.float32) * scale - shift).astype(self.dtype)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to features `(n, h', w', width)`."""
        raise NotImplementedError  # each network has its own

    def pooled(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to one vector each, `(n, width)` in float32."""
        return self.feature_map(images, train=train).astype(jnp.float32).mean((1, 2))
