"""The visual towers of CLIP (Radford et al. 2021): a transformer and a ResNet."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.layers import Attention, normalise
from experiments.models.naming import TORCH, published
from experiments.models.resnet import PUBLISHED_STAGES, TRUNK, ResNet, mean_pool
from experiments.models.vit import KEY, POSITIONS, QUERY, TIMM_PLACES, VALUE, ViT

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
WIDTH_OF_HEAD = 64

# ---- What the arrays of published weights are called -------------------------------

# Of blocks in either tower, after the name of the tower.
TRANSFORMERS_BLOCKS = {
    "encoder.layers.#.layer_norm#": "blocks/#/norm#",
    "encoder.layers.#.self_attn.q_proj": QUERY,
    "encoder.layers.#.self_attn.k_proj": KEY,
    "encoder.layers.#.self_attn.v_proj": VALUE,
    "encoder.layers.#.self_attn.out_proj": "blocks/#/attention/out",
    "encoder.layers.#.mlp.fc1": "blocks/#/hidden",
    "encoder.layers.#.mlp.fc2": "blocks/#/out",
}
OPENAI_BLOCKS = {
    "transformer.resblocks.#.ln_#": "blocks/#/norm#",
    "transformer.resblocks.#.attn.in_proj": (QUERY, KEY, VALUE),
    "transformer.resblocks.#.attn.out_proj": "blocks/#/attention/out",
    "transformer.resblocks.#.mlp.c_fc": "blocks/#/hidden",
    "transformer.resblocks.#.mlp.c_proj": "blocks/#/out",
}
# What OpenAI's archives hold besides the towers.
SETTINGS = "input_resolution|context_length|vocab_size|attn_mask"
_TEXT = (
    r"(?:transformer|token_embedding|ln_final)\..*|positional_embedding"
    rf"|text_projection|logit_\w+|{SETTINGS}"
)
TRANSFORMERS = published(
    "the visual tower of CLIP as transformers names it",
    TORCH,
    {
        "embeddings.class_embedding": "cls",
        "embeddings.position_embedding.weight": "pos_embed",
        "embeddings.patch_embedding": "patches",
        "pre_layrnorm": "pre_norm",
        **TRANSFORMERS_BLOCKS,
        "post_layernorm": "norm",
        "visual_projection": "projection",
    },
    prefix=r"(?:vision_model\.)?",
    unused=r".*position_ids|text_model\..*|text_projection\..*|logit_scale",
)
OPENAI = published(
    "a vision transformer of CLIP as OpenAI and open_clip name it",
    TORCH,
    {
        "class_embedding": "cls",
        "positional_embedding": "pos_embed",
        "conv1": "patches",
        "ln_pre": "pre_norm",
        **OPENAI_BLOCKS,
        "ln_post": "norm",
        "proj": "projection/kernel",
    },
    prefix=r"visual\.",
    unused=_TEXT,
)
TIMM = published(
    "a vision transformer of CLIP as timm names it",
    TORCH,
    {name: place for name, place in TIMM_PLACES.items() if place != "patches"}
    | {"norm_pre": "pre_norm", "patch_embed.proj(?=.weight)": "patches"},  # no bias
)
_POOL = {"query": "pool/query", "key": "pool/key", "value": "pool/value"}
OPENAI_RESNET = published(
    "a ResNet of CLIP as OpenAI and open_clip name it",
    TORCH,
    TRUNK
    | {f"attnpool.{name[0]}_proj": place for name, place in _POOL.items()}
    | {
        "conv#": "conv#",
        "bn#": "bn#",
        "attnpool.c_proj": "pool/out",
        "attnpool.positional_embedding": "pos_embed",
    },
    prefix=r"visual\.",
    unused=_TEXT,
)
# Stages count from 0 there, and from 1 here.
TIMM_RESNET = published(
    "a ResNet of CLIP as timm names it",
    TORCH,
    {
        f"stages.{stage}.#.{name}": f"layer{stage + 1}/#/{place}"
        for stage in range(PUBLISHED_STAGES)
        for name, place in {
            "conv#_(?:1x1|kxk).conv": "conv#",
            "conv#_(?:1x1|kxk).bn": "bn#",
            "shortcut.conv.conv": "downsample",
            "shortcut.conv.bn": "downsample_bn",
        }.items()
    }
    | {f"head.{name[0]}": place for name, place in _POOL.items()}
    | {
        "stem.conv#.conv": "conv#",
        "stem.conv#.bn": "bn#",
        "head.proj": "pool/out",
        "head.pos_embed": "pos_embed",
    },
)

# ---- The networks ------------------------------------------------------------------


def unit(x: jax.Array) -> jax.Array:
    """Vectors of length one, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class VisualTower(ViT):
    """A norm before the blocks, no bias for the patches, the quick GELU.

    Args:
      width: features of a token.
      depth: how many blocks.
      heads: of the attention.
      projected: whether features are unit vectors of the space that images share with
        texts, for a zero-shot head; else those before the projection.
      embedding: features of that space.
      rngs: for the weights at the start.
      options: of a `vit.ViT`.
    """

    tables = (TRANSFORMERS, OPENAI, TIMM)
    mean, std = CLIP_MEAN, CLIP_STD
    epsilon = 1e-5
    clip = True

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        projected: bool = False,
        embedding: int = 512,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        super().__init__(width, depth, heads, rngs=rngs, **options)
        self.projection = nnx.data(None)
        if projected:
            self.width, self.map_widths = embedding, (width,)
            self.projection = nnx.Linear(
                width, embedding, use_bias=False, dtype=self.dtype, rngs=rngs
            )

    def leaves_out(self, path: str) -> bool:
        """The projection, unless it is asked for."""
        return self.projection is None and path.startswith("backbone/projection/")

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to one vector each, `(n, width)` in float32."""
        tokens = super().pooled(images, train=train, rng=rng)
        return tokens if self.projection is None else unit(self.projection(tokens))


class VisualResNet(ResNet):
    """Three convolutions for a stem, means for strides, and attention for a pool.

    Args:
      depths: how many blocks each stage has.
      stem: features of the last convolution of the stem; four times as many leave the
        first stage, and each later one has twice those of the one before.
      image_size: side of the images, a multiple of the last stride; position tables of
        another one are interpolated when weights are loaded.
      projected: whether features are unit vectors, for a zero-shot head. The pool
        projects them either way.
      embedding: features that the pool gives, of the space shared with texts.
      mean: of each colour channel, in units of 255.
      std: the same.
      dtype: in which it computes.
      rngs: for the weights at the start.

    Raises:
      ValueError: the image size is no multiple of the last stride.
    """

    tables = (OPENAI_RESNET, TIMM_RESNET)
    sized, pools = True, True

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        stem: int = 64,
        image_size: int = 224,
        projected: bool = False,
        embedding: int = 1024,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        stride = 2 ** (len(depths) + 1)
        if image_size % stride:
            raise ValueError(
                f"image_size: expected a multiple of the stride of {stride} pixels, got"
                f" {image_size}"
            )
        options = {"dtype": dtype, "rngs": rngs}
        super().__init__(
            depths, bottleneck=True, stem=stem, mean=mean, std=std, **options
        )
        width, self.width, self.map_widths = self.width, embedding, (self.width,)
        self.image_size, self.projected = image_size, projected
        shape = (1, 1 + (image_size // stride) ** 2, width)
        self.pos_embed = nnx.Param(POSITIONS(rngs.params(), shape))
        heads = max(1, width // WIDTH_OF_HEAD)
        self.pool = Attention(width, heads, embedding, **options)

    def _add_stem(self, features: int, layers: Any) -> None:
        half = features // 2
        plan = ((3, half, 2), (half, half, 1), (half, features, 1))
        for index, (features_in, wanted, stride) in enumerate(plan, 1):
            setattr(self, f"conv{index}", layers.conv(features_in, wanted, 3, stride))
            setattr(self, f"bn{index}", layers.norm(wanted))

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        for index in (1, 2, 3):
            conv, norm = getattr(self, f"conv{index}"), getattr(self, f"bn{index}")
            x = nnx.relu(normalise(norm, conv(x), train))
        return mean_pool(x, 2)

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to one vector each, `(n, width)` in float32.

        Raises:
          ValueError: the images are of another size than the position table.
        """
        self.check_size(images)
        x = self.feature_map(images, train=train)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        mean = x.mean(1, keepdims=True)  # it asks; what it is given is the vector
        x = jnp.concatenate([mean, x], 1) + self.pos_embed[...].astype(x.dtype)
        vectors = self.pool(x, x[:, :1])[:, 0]
        return unit(vectors) if self.projected else vectors.astype(jnp.float32)


NETWORKS = {
    "clip-vit-base-16": functools.partial(VisualTower, width=768, depth=12, heads=12),
    "clip-resnet50": VisualResNet,
}
