"""Building blocks that several networks share.

On a CPU they have forms that XLA's back end there runs several times as fast. These
were not measured on GPUs and TPUs, which get the operations as they are.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

# Rows of a feature map that one sum may unroll; more take long to compile.
MOST_ROWS = 8


def on_cpu() -> bool:
    """Whether the forms are used that are made for XLA's CPU back end."""
    return jax.default_backend() == "cpu"


def max_pool(x: jax.Array) -> jax.Array:
    """Max pooling over 3 x 3 with stride 2 and torch's padding of 1, of `x >= 0`.

    A maximum of strided slices, first down, then across: on a CPU its gradient takes a
    tenth of the time of that of `lax.reduce_window`.

    Args:
      x: `(n, h, w, c)` after a ReLU, so that padding with zeros changes no maximum.

    Returns:
      `(n, ceil(h / 2), ceil(w / 2), c)`.
    """
    if not on_cpu():
        pads: Any = ((1, 1), (1, 1))
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=pads)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((side - 1) // 2 * 2 for side in x.shape[1:3])
    x = functools.reduce(jnp.maximum, (x[:, i : i + height : 2] for i in range(3)))
    return functools.reduce(jnp.maximum, (x[:, :, i : i + width : 2] for i in range(3)))


def batch_norm(features: int, *, epsilon: float, **options: Any) -> nnx.BatchNorm:
    """Batch norm whose running statistics follow torch's momentum of 0.1."""
    return nnx.BatchNorm(features, momentum=0.9, epsilon=epsilon, **options)


def normalise(norm: nnx.BatchNorm | None, x: jax.Array, train: bool) -> jax.Array:
    """Batch norm, by the batch's statistics in training; `x` where there is none."""
    return x if norm is None else norm(x, use_running_average=not train)


def _cpu_form(form: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A layer's `conv_general_dilated` that is `form(x, kernel, stride)` on a CPU."""

    def convolve(
        x: jax.Array,
        kernel: jax.Array,
        strides: Sequence[int],
        *rest: Any,
        **others: Any,
    ) -> jax.Array:
        if on_cpu():
            return form(x, kernel, strides[0])
        return jax.lax.conv_general_dilated(x, kernel, strides, *rest, **others)

    return convolve


def tiles(x: Any, side: int) -> Any:
    """Cuts `(n, h, w, c)` into squares: `(n, h / side, w / side, side * side * c)`."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // side, side, width // side, side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // side, width // side, -1)


@_cpu_form
def _patch_product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return tiles(x, stride) @ kernel.reshape(-1, kernel.shape[-1])


@_cpu_form
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return depthwise(x, kernel, stride)


def depthwise_conv(features: int, stride: int, **options: Any) -> nnx.Conv:
    """A 3 x 3 convolution of every channel by itself, padded as TensorFlow's SAME.

    On a CPU the sum of nine shifted products, many times as fast as a grouped
    convolution. The kernel is `(3, 3, 1, features)`.
    """
    options |= {"strides": stride, "feature_group_count": features}
    return nnx.Conv(
        features, features, (3, 3), conv_general_dilated=_depthwise, **options
    )


def patch_conv(features_in: int, features: int, patch: int, **options: Any) -> nnx.Conv:
    """A convolution whose windows do not overlap, on a CPU as a matrix product.

    The gradient of the kernel is several times as fast there as a convolution's.
    """
    options |= {"strides": patch, "conv_general_dilated": _patch_product}
    return nnx.Conv(features_in, features, (patch, patch), **options)


def windows(x: jax.Array) -> jax.Array:
    """Cuts `(n, h, w, c)` into the 3 x 3 windows of stride 2: `(n, h/2, w/2, 9c)`."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    shifted = [x[:, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


def window_conv(x: jax.Array, layer: nnx.Linear) -> jax.Array:
    """A 3 x 3 convolution of stride 2 whose kernel is kept as `(9 * c_in, c_out)`."""
    if on_cpu():
        return layer(windows(x))
    y = jax.lax.conv_general_dilated(
        x,
        layer.kernel[...].reshape(3, 3, x.shape[-1], -1).astype(x.dtype),
        (2, 2),
        ((0, 1), (0, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert layer.bias is not None
    return y + layer.bias[...].reshape(1, 1, 1, -1).astype(y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Maps `(n, h, w, c)` and `(3, 3, 1, c)` to `(n, h / stride, w / stride, c)`."""
    return _nine_products(x, kernel, stride)


def _nine_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    taps = [kernel[None, i, None, j] for i in range(3) for j in range(3)]
    pairs = zip(_shifted(x, stride), taps, strict=True)
    return functools.reduce(jnp.add, (shifted * tap for shifted, tap in pairs))


def _shifted(x: jax.Array, stride: int) -> list[jax.Array]:
    """What each of the nine taps of a 3 x 3 kernel sees, row by row."""
    sides = x.shape[1:3]
    pads = jax.lax.padtype_to_pads(sides, (3, 3), (stride, stride), "SAME")
    height, width = (-(-side // stride) * stride for side in sides)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return [
        x[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]


def _depthwise_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple:
    return depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride: int, saved: tuple, gradient: jax.Array) -> tuple:
    x, kernel = saved
    # The input's gradient is fast as autodiff has it; the kernel's is not.
    _, pull_back = jax.vjp(lambda x: _nine_products(x, kernel, stride), x)
    (input_gradient,) = pull_back(gradient)
    taps = [_channel_products(shifted, gradient) for shifted in _shifted(x, stride)]
    return input_gradient, jnp.stack(taps).reshape(kernel.shape)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _channel_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums `a * b`, both `(n, h, w, c)`, for every channel: `(c,)`.

    Adds up rows in one elementwise loop and leaves the rest to a matrix product: XLA's
    CPU back end reduces products of slices without vector instructions.
    """
    height, channels = a.shape[1], a.shape[-1]
    parts = max(n for n in range(1, MOST_ROWS + 1) if height % n == 0)
    rows = [slice(i * height // parts, (i + 1) * height // parts) for i in range(parts)]
    total = functools.reduce(jnp.add, (a[:, row] * b[:, row] for row in rows))
    total = total.reshape(-1, channels)
    return jnp.ones(total.shape[0], total.dtype) @ total


# ---- Transformers ------------------------------------------------------------------


def exact_gelu(x: jax.Array) -> jax.Array:
    """The GELU by the error function, torch's default."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of the GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


def split(rng: jax.Array | None, count: int) -> Any:
    """As many keys; none of none."""
    return [None] * count if rng is None else jax.random.split(rng, count)


def drop_path(x: jax.Array, rate: float, rng: jax.Array | None) -> jax.Array:
    """Leaves out a residual branch for some examples; without a key for none.

    Args:
      x: what the branch adds, `(n, ...)`.
      rate: the probability; what is kept is scaled so that the mean stays the same.
      rng: decides for which.
    """
    if rng is None or not rate:
        return x
    keep = jax.random.bernoulli(rng, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate), 0)


class Attention(nnx.Module):
    """Multi-head attention, with a kernel each for query, key and value."""

    def __init__(
        self, width: int, heads: int, features: int | None = None, **options: Any
    ):
        self.query = nnx.Linear(width, width, **options)
        self.key = nnx.Linear(width, width, **options)
        self.value = nnx.Linear(width, width, **options)
        self.out = nnx.Linear(width, features or width, **options)
        self.heads = heads

    def __call__(
        self, x: jax.Array, queries: jax.Array | None = None, **options: Any
    ) -> jax.Array:
        """Maps tokens `(n, length, width)` to as many as there are queries.

        Args:
          x: the tokens.
          queries: others that ask; by default `x`.
          options: `bias`, `mask`, `is_causal` of `jax.nn.dot_product_attention`.
        """
        queries = x if queries is None else queries
        query, key, value = (
            linear(tokens).reshape(*tokens.shape[:2], self.heads, -1)
            for linear, tokens in (
                (self.query, queries),
                (self.key, x),
                (self.value, x),
            )
        )
        mixed = jax.nn.dot_product_attention(query, key, value, **options)
        return self.out(mixed.reshape(queries.shape))


class EncoderBlock(nnx.Module):
    """Self-attention and a hidden layer of four times the width, normalised before."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        epsilon: float,
        quick: bool = False,
        drop_path: float = 0.0,
        **options: Any,
    ):
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path: expected a number in [0, 1), got {drop_path}")
        self.norm1 = nnx.LayerNorm(width, epsilon=epsilon, **options)
        self.attention = Attention(width, heads, **options)
        self.norm2 = nnx.LayerNorm(width, epsilon=epsilon, **options)
        self.hidden = nnx.Linear(width, 4 * width, **options)
        self.out = nnx.Linear(4 * width, width, **options)
        self.quick, self.drop_path = quick, drop_path

    def __call__(
        self, x: jax.Array, rng: jax.Array | None = None, **options: Any
    ) -> jax.Array:
        """Maps tokens `(n, ..., width)` to as many; `options` are those of `attend`."""
        one, other = split(rng, 2)
        x = x + drop_path(self.attend(self.norm1(x), **options), self.drop_path, one)
        gelu = quick_gelu if self.quick else exact_gelu
        hidden = self.out(gelu(self.hidden(self.norm2(x))))
        return x + drop_path(hidden, self.drop_path, other)

    def attend(self, x: jax.Array, **options: Any) -> jax.Array:
        """Every token of `(n, length, width)` to every other."""
        return self.attention(x, **options)
