"""The vision transformer (Dosovitskiy et al. 2021), and the visual tower of CLIP."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.backbone import HALF, Backbone
from experiments.models.layers import EncoderBlock, patch_conv, split
from experiments.models.naming import FLAX, TORCH, published

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_POSITIONS = nnx.initializers.uniform(0.02)

# ---- What the arrays of published weights are called -------------------------------

QUERY, KEY, VALUE = (f"blocks/#/attention/{name}" for name in ("query", "key", "value"))

TIMM = published(
    "a vision transformer as timm names it",
    TORCH,
    {
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
    },
)
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
CLIP = published(
    "the visual tower of CLIP as transformers names it",
    TORCH,
    {
        "embeddings.class_embedding": "cls",
        "embeddings.position_embedding.weight": "pos_embed",
        "embeddings.patch_embedding": "patches",
        "pre_layrnorm": "pre_norm",
        "encoder.layers.#.layer_norm#": "blocks/#/norm#",
        "encoder.layers.#.self_attn.q_proj": QUERY,
        "encoder.layers.#.self_attn.k_proj": KEY,
        "encoder.layers.#.self_attn.v_proj": VALUE,
        "encoder.layers.#.self_attn.out_proj": "blocks/#/attention/out",
        "encoder.layers.#.mlp.fc1": "blocks/#/hidden",
        "encoder.layers.#.mlp.fc2": "blocks/#/out",
        "post_layernorm": "norm",
    },
    prefix=r"(?:vision_model\.)?",
    unused=r".*position_ids|text_model\..*|\w+_projection\..*|logit_scale",
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
        clip, norm = self.clip, {"epsilon": epsilon or self.epsilon, **options}
        self.width, self.image_size, self.grid = width, image_size, image_size // patch
        self.dtype = jnp.dtype(dtype)
        self.mean, self.std = mean or self.mean, std or self.std
        self.patches = patch_conv(3, width, patch, use_bias=not clip, **options)
        self.cls = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(
            _POSITIONS(rngs.params(), (1, self.grid**2 + 1, width))
        )
        self.pre_norm = nnx.data(nnx.LayerNorm(width, **norm) if clip else None)
        self.blocks = nnx.List(
            EncoderBlock(width, heads, quick=clip, drop_path=float(rate), **norm)
            for rate in np.linspace(0, drop_path, depth)
        )
        self.norm = nnx.LayerNorm(width, **norm)

    def tokens(self, images: jax.Array, rng: jax.Array | None = None) -> jax.Array:
        """Maps images to normalised tokens `(n, 1 + patches, width)`, the class first.

        Raises:
          ValueError: the images are of another size than the position table.
        """
        if images.shape[1:3] != (self.image_size,) * 2:
            raise ValueError(
                f"images: expected {self.image_size} x {self.image_size} pixels, got"
                f" shape {images.shape}; create the model with their image_size"
            )
        x = self.patches(self.standardise(images))
        x = x.reshape(x.shape[0], -1, self.width)
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, self.width))
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
        return [x.reshape(x.shape[0], self.grid, self.grid, self.width)]

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to their class tokens, `(n, width)` in float32."""
        return self.tokens(images, rng)[:, 0].astype(jnp.float32)


class VisualTower(ViT):
    """CLIP's: a norm before the blocks, no bias for the patches, the quick GELU."""

    tables = (CLIP,)
    mean, std = CLIP_MEAN, CLIP_STD
    epsilon = 1e-5
    clip = True


NETWORKS = {
    "vit-tiny-16": functools.partial(ViT, width=192, depth=12, heads=3),
    "vit-small-16": functools.partial(ViT, width=384, depth=12, heads=6),
    "vit-base-16": functools.partial(ViT, width=768, depth=12, heads=12),
    "clip-vit-base-16": functools.partial(VisualTower, width=768, depth=12, heads=12),
}
