"""The vision transformer (Dosovitskiy et al. 2021), and the visual tower of CLIP."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.backbone import HALF, Backbone
from experiments.models.layers import patch_conv
from experiments.models.naming import (
    Rule,
    Table,
    class_token,
    fused_bias,
    fused_kernel,
    ignore,
    position_table,
    torch_conv,
    torch_layer_norm,
    torch_linear,
)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_POSITIONS = nnx.initializers.uniform(0.02)

# ---- What the arrays of published weights are called -------------------------------

_QKV = ("query", "key", "value")


def _timm() -> list[Rule]:
    block, path = r"blocks\.(\d+)", r"backbone/blocks/\1"
    qkv = tuple(f"{path}/attention/{name}" for name in _QKV)
    kernels, biases = (tuple(f"{p}/{leaf}" for p in qkv) for leaf in ("kernel", "bias"))
    return [
        Rule("cls_token", "backbone/cls", class_token),
        Rule("pos_embed", "backbone/pos_embed", position_table),
        *torch_conv(r"patch_embed\.proj", "backbone/patches"),
        *torch_layer_norm(rf"{block}\.norm([12])", rf"{path}/norm\2"),
        Rule(rf"{block}\.attn\.qkv\.weight", kernels, fused_kernel),
        Rule(rf"{block}\.attn\.qkv\.bias", biases, fused_bias),
        *torch_linear(rf"{block}\.attn\.proj", f"{path}/attention/out"),
        *torch_linear(rf"{block}\.mlp\.fc1", f"{path}/hidden"),
        *torch_linear(rf"{block}\.mlp\.fc2", f"{path}/out"),
        *torch_layer_norm("norm", "backbone/norm"),
        *torch_linear("head", "head"),
    ]


def _transformers() -> list[Rule]:
    """As files have it, `encoder.layer.0`, and as transformers 5 does in memory."""
    outer = r"(?:vit\.)?"
    block = rf"{outer}(?:encoder\.layer|layers)\.(\d+)"
    path = r"backbone/blocks/\1"
    rules = [
        Rule(rf"{outer}embeddings\.cls_token", "backbone/cls", class_token),
        Rule(
            rf"{outer}embeddings\.position_embeddings",
            "backbone/pos_embed",
            position_table,
        ),
        *torch_conv(
            rf"{outer}embeddings\.patch_embeddings\.projection", "backbone/patches"
        ),
        *torch_layer_norm(rf"{block}\.layernorm_before", f"{path}/norm1"),
        *torch_layer_norm(rf"{block}\.layernorm_after", f"{path}/norm2"),
        *torch_layer_norm(rf"{outer}layernorm", "backbone/norm"),
        *torch_linear("classifier", "head"),
        ignore(rf"{outer}(?:pooler\..*|embeddings\.mask_token)"),
    ]
    linears = {
        r"attention\.(?:output\.dense|o_proj)": "attention/out",
        r"(?:intermediate\.dense|mlp\.fc1)": "hidden",
        r"(?:output\.dense|mlp\.fc2)": "out",
    }
    for name in _QKV:
        pattern = rf"attention\.(?:attention\.{name}|{name[0]}_proj)"
        linears[pattern] = f"attention/{name}"
    for pattern, target in linears.items():
        rules += torch_linear(rf"{block}\.{pattern}", f"{path}/{target}")
    return rules


def _clip() -> list[Rule]:
    outer = r"(?:vision_model\.)?"
    block = rf"{outer}encoder\.layers\.(\d+)"
    path, embeddings = r"backbone/blocks/\1", rf"{outer}embeddings"
    rules = [
        Rule(rf"{embeddings}\.class_embedding", "backbone/cls", class_token),
        Rule(
            rf"{embeddings}\.position_embedding\.weight",
            "backbone/pos_embed",
            position_table,
        ),
        *torch_conv(rf"{embeddings}\.patch_embedding", "backbone/patches"),
        *torch_layer_norm(rf"{outer}pre_layrnorm", "backbone/pre_norm"),
        *torch_layer_norm(rf"{block}\.layer_norm([12])", rf"{path}/norm\2"),
        *torch_linear(rf"{block}\.self_attn\.out_proj", f"{path}/attention/out"),
        *torch_linear(rf"{block}\.mlp\.fc1", f"{path}/hidden"),
        *torch_linear(rf"{block}\.mlp\.fc2", f"{path}/out"),
        *torch_layer_norm(rf"{outer}post_layernorm", "backbone/norm"),
        ignore(rf"{embeddings}\.position_ids"),
        ignore(r"text_model\..*|(?:text|visual)_projection\.weight|logit_scale"),
    ]
    for name in _QKV:
        pattern = rf"{block}\.self_attn\.{name[0]}_proj"
        rules += torch_linear(pattern, f"{path}/attention/{name}")
    return rules


TIMM = Table("a vision transformer as timm names it", _timm())
TRANSFORMERS = Table("a vision transformer as transformers names it", _transformers())
CLIP = Table("the visual tower of CLIP as transformers names it", _clip())

# ---- The network -------------------------------------------------------------------


def exact_gelu(x: jax.Array) -> jax.Array:
    """The GELU by the error function, torch's default."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of the GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


class Attention(nnx.Module):
    """Multi-head self-attention, with a kernel each for query, key and value."""

    def __init__(self, width: int, heads: int, **options: Any):
        self.query = nnx.Linear(width, width, **options)
        self.key = nnx.Linear(width, width, **options)
        self.value = nnx.Linear(width, width, **options)
        self.out = nnx.Linear(width, width, **options)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `(n, length, width)` to as many."""
        query, key, value = (
            linear(x).reshape(*x.shape[:2], self.heads, -1)
            for linear in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(query, key, value)
        return self.out(mixed.reshape(x.shape))


class EncoderBlock(nnx.Module):
    """Self-attention and a hidden layer of four times the width, normalised before."""

    def __init__(
        self, width: int, heads: int, *, epsilon: float, quick: bool, **options: Any
    ):
        self.norm1 = nnx.LayerNorm(width, epsilon=epsilon, **options)
        self.attention = Attention(width, heads, **options)
        self.norm2 = nnx.LayerNorm(width, epsilon=epsilon, **options)
        self.hidden = nnx.Linear(width, 4 * width, **options)
        self.out = nnx.Linear(4 * width, width, **options)
        self.quick = quick

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `(n, length, width)` to as many."""
        x = x + self.attention(self.norm1(x))
        gelu = quick_gelu if self.quick else exact_gelu
        return x + self.out(gelu(self.hidden(self.norm2(x))))


class ViT(Backbone):
    """Patches of 16 pixels, a class token, learned positions, and pre-norm blocks.

    Args:
      width: features of a token.
      depth: how many blocks.
      heads: of the attention.
      image_size: side of the images, a multiple of `patch`; position tables of another
        one are interpolated when weights are loaded.
      patch: side of a patch.
      epsilon: of the layer norms: 1e-12 in transformers, 1e-6 in timm.
      clip: the variant of CLIP: a norm before the blocks, no bias for the patches, the
        quick GELU, norms with 1e-5, and CLIP's colours.
      mean: of each colour channel, in units of 255: as the weights were trained with.
      std: the same.
      dtype: in which it computes.
      rngs: for the weights at the start.

    Raises:
      ValueError: the image size is no multiple of the patch.
    """

    sized = True
    tables = (TIMM, TRANSFORMERS, CLIP)

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        image_size: int = 224,
        patch: int = 16,
        epsilon: float | None = None,
        clip: bool = False,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if image_size % patch:
            raise ValueError(
                f"image_size: expected a multiple of the patch of {patch} pixels, got"
                f" {image_size}"
            )
        options = {"dtype": dtype, "rngs": rngs}
        epsilon = epsilon or (1e-5 if clip else 1e-12)
        self.clip = clip
        self.width, self.image_size, self.grid = width, image_size, image_size // patch
        self.dtype = jnp.dtype(dtype)
        self.mean = mean or (CLIP_MEAN if clip else HALF)
        self.std = std or (CLIP_STD if clip else HALF)
        self.patches = patch_conv(3, width, patch, use_bias=not clip, **options)
        self.cls = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(
            _POSITIONS(rngs.params(), (1, self.grid**2 + 1, width))
        )
        self.pre_norm = nnx.data(
            nnx.LayerNorm(width, epsilon=epsilon, **options) if clip else None
        )
        self.blocks = nnx.List(
            EncoderBlock(width, heads, epsilon=epsilon, quick=clip, **options)
            for _ in range(depth)
        )
        self.norm = nnx.LayerNorm(width, epsilon=epsilon, **options)

    def named_by(self) -> Sequence[Table]:
        """CLIP's visual tower has tensors that others lack."""
        return (CLIP,) if self.clip else (TIMM, TRANSFORMERS)

    def tokens(self, images: jax.Array) -> jax.Array:
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
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to the tokens of patches, `(n, h', w', c)`."""
        x = self.tokens(images)[:, 1:]
        return x.reshape(x.shape[0], self.grid, self.grid, self.width)

    def pooled(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to their class tokens, `(n, width)` in float32."""
        return self.tokens(images)[:, 0].astype(jnp.float32)


NETWORKS = {
    "vit-tiny-16": functools.partial(ViT, 192, 12, 3),
    "vit-small-16": functools.partial(ViT, 384, 12, 6),
    "vit-base-16": functools.partial(ViT, 768, 12, 12),
    "clip-vit-base-16": functools.partial(ViT, 768, 12, 12, clip=True),
}
