"""Swin (Liu et al. 2021): attention within windows, shifted in every other block."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from experiments.models.layers import EncoderBlock, patch_conv, split, tiles
from experiments.models.naming import TORCH, published

EPSILON = 1e-5
_TABLE = nnx.initializers.uniform(0.02)

# ---- What the arrays of published weights are called -------------------------------

BLOCK = "stages/#/#"
QUERY, KEY, VALUE = (f"{BLOCK}/attention/{name}" for name in ("query", "key", "value"))
_PLACES = {
    "patch_embed.proj": "patches",
    "patch_embed.norm": "patch_norm",
    "layers.#.blocks.#.norm#": f"{BLOCK}/norm#",
    "layers.#.blocks.#.attn.relative_position_bias_table": f"{BLOCK}/bias_table",
    "layers.#.blocks.#.attn.qkv": (QUERY, KEY, VALUE),
    "layers.#.blocks.#.attn.proj": f"{BLOCK}/attention/out",
    "layers.#.blocks.#.mlp.fc1": f"{BLOCK}/hidden",
    "layers.#.blocks.#.mlp.fc2": f"{BLOCK}/out",
    "norm": "norm",
}
_BUFFERS = r".*(?:relative_position_index|attn_mask)"
OFFICIAL = published(
    "a Swin as its authors name it",
    TORCH,
    {
        **_PLACES,
        "layers.([012]).downsample.norm": "merges/#/norm",
        "layers.([012]).downsample.reduction": "merges/#/reduction",
        "head": "head",
    },
    unused=_BUFFERS,
)
TIMM = published(
    "a Swin as timm names it",
    TORCH,
    # There a stage begins with the merging that ends the one before elsewhere.
    _PLACES
    | {
        f"layers.{stage + 1}.downsample.{part}": f"merges/{stage}/{part}"
        for stage in range(3)
        for part in ("norm", "reduction")
    }
    | {"head.fc": "head"},
    unused=_BUFFERS,
)
_LAYER = "encoder.layers.#.blocks.#"
# As files have it, `attention.self.query`, and as transformers 5 does in memory.
TRANSFORMERS = published(
    "a Swin as transformers names it",
    TORCH,
    {
        "embeddings.patch_embeddings.projection": "patches",
        "embeddings.norm": "patch_norm",
        f"{_LAYER}.layernorm_before": f"{BLOCK}/norm1",
        f"{_LAYER}.layernorm_after": f"{BLOCK}/norm2",
        f"{_LAYER}.attention.(?:self|relative_position_bias)"
        ".relative_position_bias_table": f"{BLOCK}/bias_table",
        f"{_LAYER}.attention.(?:self.query|q_proj)": QUERY,
        f"{_LAYER}.attention.(?:self.key|k_proj)": KEY,
        f"{_LAYER}.attention.(?:self.value|v_proj)": VALUE,
        f"{_LAYER}.attention.(?:output.dense|o_proj)": f"{BLOCK}/attention/out",
        f"{_LAYER}.(?:intermediate.dense|mlp.fc1)": f"{BLOCK}/hidden",
        f"{_LAYER}.(?:output.dense|mlp.fc2)": f"{BLOCK}/out",
        "encoder.layers.#.downsample.norm": "merges/#/norm",
        "encoder.layers.#.downsample.reduction": "merges/#/reduction",
        "layernorm": "norm",
        "classifier": "head",
    },
    prefix=r"(?:swin\.)?",
    unused=_BUFFERS + r"|.*mask_token",
)

# ---- The network -------------------------------------------------------------------


class Swin(Backbone):
    """Four stages of windowed attention at strides 4, 8, 16 and 32.

    Images may have any size. The maps for dense tasks are windowed as in the authors'
    code for detection and segmentation, padded and always shifted; the features for
    classification as in that for classification, where a map that is no larger than a
    window is one window.

    Args:
      width: features of the first stage; each has twice those of the one before.
      depths: how many blocks each stage has.
      heads: of the attention, for each stage.
      window: side of a window. Bias tables of another are interpolated when weights are
        loaded.
      patch: side of a patch.
      mean: of each colour channel, in units of 255.
      std: the same.
      drop_path: as of `vit.ViT`.
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    tables = (OFFICIAL, TIMM, TRANSFORMERS)

    def __init__(
        self,
        *,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        patch: int = 4,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        drop_path: float = 0.0,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        widths = [width * 2**stage for stage in range(len(depths))]
        self.map_widths, self.width = tuple(widths), widths[-1]
        self.dtype, self.patch = jnp.dtype(dtype), patch
        self.mean, self.std = mean, std
        self.patches = patch_conv(3, width, patch, **options)
        self.patch_norm = nnx.LayerNorm(width, epsilon=EPSILON, **options)
        rates = iter(np.linspace(0, drop_path, sum(depths)))
        self.stages = nnx.List(
            nnx.List(
                WindowBlock(
                    *(features, count, window),
                    shift=window // 2 if index % 2 else 0,
                    drop_path=float(next(rates)),
                    **options,
                )
                for index in range(depth)
            )
            for features, depth, count in zip(widths, depths, heads, strict=True)
        )
        self.merges = nnx.List(PatchMerging(w, **options) for w in widths[:-1])
        self.norm = nnx.LayerNorm(self.width, epsilon=EPSILON, **options)

    def feature_maps(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> list[jax.Array]:
        """Maps images `(n, h, w, 3)` to normalised features at strides 4, 8, 16, 32.

        The last norm is published with the weights. Those of the other maps have no
        scale and no bias: what reads a map has its own.
        """
        *maps, last = self._stages(images, rng, dense=True)
        maps = [
            jax.nn.standardize(x.astype(jnp.float32), epsilon=EPSILON).astype(x.dtype)
            for x in maps
        ]
        return [*maps, self.norm(last)]

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to one vector each, `(n, width)` in float32."""
        *_, last = self._stages(images, rng, dense=False)
        return self.norm(last).astype(jnp.float32).mean((1, 2))

    def _stages(
        self, images: jax.Array, rng: jax.Array | None, *, dense: bool
    ) -> list[jax.Array]:
        """What each stage gives."""
        x = _padded(self.standardise(images), self.patch)
        x = self.patch_norm(self.patches(x))
        keys = iter(split(rng, sum(map(len, self.stages))))
        maps = []
        for stage, blocks in enumerate(self.stages):
            x = self.merges[stage - 1](x) if stage else x
            for block in blocks:
                x = block(x, next(keys), dense=dense)
            maps.append(x)
        return maps


class WindowBlock(EncoderBlock):
    """Attention among the tokens of a window, by their content and relative position.

    Args:
      width: features of a token.
      heads: of the attention.
      window: side of a window.
      shift: by how much windows are moved down and to the right.
      options: of an `EncoderBlock`.
    """

    def __init__(
        self, width: int, heads: int, window: int, *, shift: int, **options: Any
    ):
        super().__init__(width, heads, epsilon=EPSILON, **options)
        self.window, self.shift = window, shift
        shape = ((2 * window - 1) ** 2, heads)  # offsets, down before across
        self.bias_table = nnx.Param(_TABLE(options["rngs"].params(), shape))

    def attend(self, x: jax.Array, *, dense: bool = True, **options: Any) -> jax.Array:
        """Maps `(n, h, w, width)` to as many."""
        n, height, width, _ = x.shape
        window, shift = self.window, self.shift
        if not dense and min(height, width) <= window:
            window, shift = min(height, width), 0
        x = jnp.roll(_padded(x, window), (-shift, -shift), (1, 2))
        mask = None
        if shift:
            # What the shift brings together from opposite edges stays apart.
            same = _same_region(x.shape[1:3], window, shift)
            mask = jnp.tile(same, (n, 1, 1, 1))
        bias = self._bias(window).astype(x.dtype)
        mixed = self.attention(_cut(x, window), bias=bias, mask=mask, **options)
        x = _joined(mixed, window, x.shape)
        return jnp.roll(x, (shift, shift), (1, 2))[:, :height, :width]

    def _bias(self, window: int) -> jax.Array:
        """The bias `(1, heads, length, length)` of a window, no larger than its own."""
        side = 2 * self.window - 1
        table = self.bias_table[...].reshape(side, side, -1)
        offsets = np.arange(window)[:, None] - np.arange(window)[None]
        offsets = offsets + self.window - 1
        bias = table[offsets[:, None, :, None], offsets[None, :, None, :]]
        return bias.reshape(window**2, window**2, -1).transpose(2, 0, 1)[None]


class PatchMerging(nnx.Module):
    """Joins four neighbours, halving both sides and doubling the features."""

    def __init__(self, width: int, **options: Any):
        self.norm = nnx.LayerNorm(4 * width, epsilon=EPSILON, **options)
        self.reduction = nnx.Linear(4 * width, 2 * width, use_bias=False, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(n, h, w, width)` to `(n, ceil(h / 2), ceil(w / 2), 2 * width)`."""
        x = _padded(x, 2)
        # The one below comes before the one to the right.
        neighbours = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(jnp.concatenate(neighbours, axis=-1)))


def _padded(x: jax.Array, side: int) -> jax.Array:
    """With zeros below and to the right, to multiples of a side."""
    below, right = (-length % side for length in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))


def _cut(x: Any, window: int) -> Any:
    """Maps `(n, h, w, c)` to the tokens of windows, `(n * windows, window**2, c)`."""
    return tiles(x, window).reshape(-1, window**2, x.shape[-1])


def _joined(x: jax.Array, window: int, shape: Sequence[int]) -> jax.Array:
    """What was cut."""
    n, height, width, _ = shape
    x = x.reshape(n, height // window, width // window, window, window, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(shape)


def _same_region(sides: Sequence[int], window: int, shift: int) -> np.ndarray:
    """Whether two tokens of a shifted window were neighbours, `(windows, 1, l, l)`."""
    rows, columns = (
        np.add(*(np.arange(side) >= side - end for end in (window, shift)), dtype=int)
        for side in sides
    )
    regions = 3 * rows[:, None] + columns[None]
    regions = _cut(regions[None, :, :, None], window)[..., 0]
    return (regions[:, :, None] == regions[:, None, :])[:, None]


NETWORKS = {"swin-tiny": Swin}
