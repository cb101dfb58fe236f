"""The vision transformer (Dosovitskiy et al. 2021)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.backbone import HALF, Backbone
from experiments.models.layers import EncoderBlock, patch_conv, split
from experiments.models.naming import FLAX, TORCH, published

POSITIONS = nnx.initializers.uniform(0.02)

# ---- What the arrays of published weights are called -------------------------------

QUERY, KEY, VALUE = (f"blocks/#/attention/{name}" for name in ("query", "key", "value"))

TIMM_PLACES = {
    "cls_token": "cls",
    "pos_embed": "pos_embed",
    "patch_embed.proj": "patches",
    "blocks.#.norm#": "blocks/#/norm#",
    "blocks.#.attn.qkv": (QUERY, KEY, VALUE),
    "blocks.#.attn.proj": "blocks/#/attention/out",
    "blocks.#.mlp.fc1": "blocks/#/hidden",
    "blocks.#.mlp.fc2": "blocks/#/out",
    "norm": "norm",
    "head": "head",
}
TIMM = published("a vision transformer as timm names it", TORCH, TIMM_PLACES)
# As files have it, `encoder.layer.0`, and as transformers 5 does in memory.
_LAYER = "(?:encoder.layer|layers).#"
TRANSFORMERS = published(
    "a vision transformer as transformers names it",
    TORCH,
    {
        "embeddings.cls_token": "cls",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patches",
        f"{_LAYER}.layernorm_before": "blocks/#/norm1",
        f"{_LAYER}.layernorm_after": "blocks/#/norm2",
        f"{_LAYER}.attention.(?:attention.query|q_proj)": QUERY,
        f"{_LAYER}.attention.(?:attention.key|k_proj)": KEY,
        f"{_LAYER}.attention.(?:attention.value|v_proj)": VALUE,
        f"{_LAYER}.attention.(?:output.dense|o_proj)": "blocks/#/attention/out",
        f"{_LAYER}.(?:intermediate.dense|mlp.fc1)": "blocks/#/hidden",
        f"{_LAYER}.(?:output.dense|mlp.fc2)": "blocks/#/out",
        "layernorm": "norm",
        "classifier": "head",
    },
    prefix=r"(?:vit\.)?",
    unused=r".*pooler\..*|.*mask_token",
)
_BLOCK = "Transformer/encoderblock_#"
_ATTENTION = f"{_BLOCK}/MultiHeadDotProductAttention_1"
BIG_VISION = published(
    "a vision transformer as big_vision names it",
    FLAX,
    {
        "cls": "cls",
        "(?:Transformer/posembed_input/)?pos_embedding": "pos_embed",
        "embedding": "patches",
        f"{_BLOCK}/LayerNorm_0": "blocks/#/norm1",
        f"{_ATTENTION}/query": QUERY,
        f"{_ATTENTION}/key": KEY,
        f"{_ATTENTION}/value": VALUE,
        f"{_ATTENTION}/out": "blocks/#/attention/out",
        f"{_BLOCK}/LayerNorm_2": "blocks/#/norm2",
        f"{_BLOCK}/MlpBlock_3/Dense_0": "blocks/#/hidden",
        f"{_BLOCK}/MlpBlock_3/Dense_1": "blocks/#/out",
        "Transformer/encoder_norm": "norm",
        "head": "head",
    },
)

# ---- The network -------------------------------------------------------------------


class ViT(Backbone):
    """Patches of 16 pixels, a class token, learned positions, and pre-norm blocks.

    Args:
      width: features of a token.
      depth: how many blocks.
      heads: of the attention.
      image_size: side of the images, a multiple of `patch`; position tables of another
        one are interpolated when weights are loaded.
      patch: side of a patch.
      epsilon: of the layer norms: 1e-12 in transformers, 1e-6 in timm and big_vision.
      mean: of each colour channel, in units of 255: as the weights were trained with.
      std: the same.
      quick: whether the GELU is OpenAI's approximation, as in their CLIP; other CLIPs,
        such as LAION's, may have the exact one.
      drop_path: probability of leaving out a branch of the last block in training; of
        the blocks before it grows in equal steps from 0.
      dtype: in which it computes.
      rngs: for the weights at the start.

    Raises:
      ValueError: the image size is no multiple of the patch.
    """

    sized = True
    tables = (TIMM, TRANSFORMERS, BIG_VISION)
    mean, std = HALF, HALF
    epsilon = 1e-12
    clip = False

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        image_size: int = 224,
        patch: int = 16,
        epsilon: float | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        quick: bool | None = None,
        drop_path: float = 0.0,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if image_size % patch:
            raise ValueError(
                f"image_size: expected a multiple of the patch of {patch} pixels, got"
                f" {image_size}"
            )
        options = {"dtype": dtype, "rngs": rngs}
        quick = self.clip if quick is None else quick
        clip, norm = self.clip, {"epsilon": epsilon or self.epsilon, **options}
        self.width = width
        self.image_size, self.grid = image_size, image_size // patch
        self.dtype = jnp.dtype(dtype)
        self.mean, self.std = mean or self.mean, std or self.std
        self.patches = patch_conv(3, width, patch, use_bias=not clip, **options)
        self.cls = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(
            POSITIONS(rngs.params(), (1, self.grid**2 + 1, width))
        )
        self.pre_norm = nnx.data(nnx.LayerNorm(width, **norm) if clip else None)
        self.blocks = nnx.List(
            EncoderBlock(width, heads, quick=quick, drop_path=float(rate), **norm)
            for rate in np.linspace(0, drop_path, depth)
        )
        self.norm = nnx.LayerNorm(width, **norm)

    def tokens(self, images: jax.Array, rng: jax.Array | None = None) -> jax.Array:
        """Maps images to normalised tokens `(n, 1 + patches, width)`, the class first.

        Raises:
          ValueError: the images are of another size than the position table.
        """
        self.check_size(images)
        x = self.patches(self.standardise(images))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([cls.astype(x.dtype), x], axis=1)
        x = x + self.pos_embed[...].astype(x.dtype)
        x = x if self.pre_norm is None else self.pre_norm(x)
        for block, key in zip(self.blocks, split(rng, len(self.blocks)), strict=True):
            x = block(x, key)
        return self.norm(x)

    def feature_maps(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> list[jax.Array]:
        """Maps images `(n, h, w, 3)` to the tokens of patches, `(n, h', w', c)`."""
        x = self.tokens(images, rng)[:, 1:]
        return [x.reshape(x.shape[0], self.grid, self.grid, x.shape[-1])]

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to their class tokens, `(n, width)` in float32."""
        return self.tokens(images, rng)[:, 0].astype(jnp.float32)


NETWORKS = {
    "vit-tiny-16": functools.partial(ViT, width=192, depth=12, heads=3),
    "vit-small-16": functools.partial(ViT, width=384, depth=12, heads=6),
    "vit-base-16": functools.partial(ViT, width=768, depth=12, heads=12),
}
