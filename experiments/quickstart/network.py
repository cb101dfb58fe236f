"""A small convolutional network for images of 16 x 16 pixels."""

import functools
from typing import Any

import jax
from flax import nnx

from experiments.models.layers import windows

CLASSES = 10
LAYERS = ("conv1", "conv2", "conv3", "hidden", "head")

Params = dict[str, Any]  # nested, float32 leaves


class SmallNet(nnx.Module):
    """Three 3 x 3 convolutions of stride 2, a hidden layer and a head; all biased.

    The convolutions are matrix products of `windows` with a kernel `(9 * c_in, c_out)`:
    on CPU these run five times as fast as XLA's own convolutions once they stand inside
    `lax.scan`. No layer keeps statistics of the batch, so the parameters are all there
    is to fine-tune.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        # A uniform start compiles several times as fast as the usual normal one.
        dense = functools.partial(
            nnx.Linear, kernel_init=nnx.initializers.he_uniform(), rngs=rngs
        )
        self.conv1 = dense(9, 16)
        self.conv2 = dense(9 * 16, 32)
        self.conv3 = dense(9 * 32, 64)
        self.hidden = dense(4 * 64, 128)
        self.head = dense(128, CLASSES)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images `(n, 16, 16)` in [0, 1] to logits `(n, CLASSES)`."""
        x = images[..., None]
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.relu(conv(windows(x)))
        x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.head(x)


@functools.cache
def _graphdef() -> nnx.GraphDef:
    return nnx.graphdef(nnx.eval_shape(lambda: SmallNet(rngs=nnx.Rngs(0))))


def init_params(seed: int) -> Params:
    """Random parameters as nested dicts: `{"conv1": {"bias", "kernel"}, ...}`."""
    return nnx.to_pure_dict(nnx.state(SmallNet(rngs=nnx.Rngs(seed)), nnx.Param))


def logits(params: Params, images: jax.Array) -> jax.Array:
    """`SmallNet` as a function of its parameters: `(n, 16, 16)` to `(n, CLASSES)`."""
    return nnx.merge(_graphdef(), params)(images)
