"""The text tower of CLIP: what a text is in the space that it shares with images."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import weights
from experiments.models.backbone import Backbone, drawn
from experiments.models.clip import (
    OPENAI_BLOCKS,
    SETTINGS,
    TRANSFORMERS_BLOCKS,
    WIDTH_OF_HEAD,
    unit,
)
from experiments.models.layers import EncoderBlock
from experiments.models.naming import TORCH, published
from experiments.models.vit import POSITIONS

EPSILON = 1e-5
TRANSFORMERS = published(
    "the text tower of CLIP as transformers names it",
    TORCH,
    {
        "embeddings.token_embedding.weight": "tokens/embedding",
        "embeddings.position_embedding.weight": "pos_embed",
        **TRANSFORMERS_BLOCKS,
        "final_layer_norm": "norm",
        "text_projection": "projection",
        "logit_scale": "logit_scale",
    },
    prefix=r"(?:text_model\.)?",
    unused=r".*position_ids|vision_model\..*|visual_projection\..*",
)
OPENAI = published(
    "the text tower of CLIP as OpenAI and open_clip name it",
    TORCH,
    {
        "token_embedding.weight": "tokens/embedding",
        "positional_embedding": "pos_embed",
        **OPENAI_BLOCKS,
        "ln_final": "norm",
        "text_projection": "projection/kernel",
        "logit_scale": "logit_scale",
    },
    unused=rf"visual\..*|{SETTINGS}|logit_bias",
)


class TextTower(Backbone):
    """Causal blocks; the features are those of the end of the text.

    Args:
      width: features of a token.
      depth: how many blocks.
      vocabulary: how many tokens there are; that of the end is the highest.
      length: of a text, in tokens, at most.
      embedding: features of the space shared with images.
      quick: whether the GELU is OpenAI's approximation.
      dtype: in which it computes.
      rngs: for the weights at the start.
    """

    tables = (TRANSFORMERS, OPENAI)

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        vocabulary: int,
        length: int,
        embedding: int,
        quick: bool = True,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.width, self.length, self.dtype = embedding, length, jnp.dtype(dtype)
        heads = max(1, width // WIDTH_OF_HEAD)
        self.tokens = nnx.Embed(vocabulary, width, **options)
        self.pos_embed = nnx.Param(POSITIONS(rngs.params(), (1, length, width)))
        self.blocks = nnx.List(
            EncoderBlock(width, heads, epsilon=EPSILON, quick=quick, **options)
            for _ in range(depth)
        )
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, **options)
        self.projection = nnx.Linear(width, embedding, use_bias=False, **options)
        self.logit_scale = nnx.Param(jnp.zeros(()))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps texts `(n, up to length)` to unit vectors `(n, embedding)` in float32.

        Args:
          tokens: whole numbers; what follows the end of a text is not seen.
        """
        positions = self.pos_embed[...][:, : tokens.shape[1]]
        x = self.tokens(tokens) + positions.astype(self.dtype)
        for block in self.blocks:
            x = block(x, is_causal=True)
        end = tokens.argmax(-1)[:, None, None]
        last = jnp.take_along_axis(self.norm(x), end, axis=1)[:, 0]
        return unit(self.projection(last))


class _Model(nnx.Module):
    """What weights are loaded into: a network under the name of `backbone`."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone


def load(path: str | pathlib.Path, *, quick: bool = True) -> TextTower:
    """The text tower of a file of CLIP's weights, of the size that the file says.

    Args:
      path: as of `weights.load_weights`.
      quick: whether the GELU is OpenAI's approximation; LAION's towers have the exact.

    Raises:
      WeightsError: the file has no text tower, or is missing or damaged.
    """
    path = weights.located(path)
    shapes = weights.shapes_in(path, TextTower.tables)
    blocks = {
        m[1] for name in shapes if (m := re.match(r"backbone/blocks/(\d+)", name))
    }
    try:
        vocabulary, width = shapes["backbone/tokens/embedding"]
        length = shapes["backbone/pos_embed"][-2]
        embedding = shapes["backbone/projection/kernel"][-1]
    except (KeyError, ValueError, IndexError) as error:
        raise weights.WeightsError(f"{path} has no text tower of CLIP") from error

    def make() -> _Model:
        tower = TextTower(
            *(width, len(blocks)),
            vocabulary=vocabulary,
            length=length,
            embedding=embedding,
            quick=quick,
            rngs=nnx.Rngs(0),
        )
        return _Model(tower)

    model = drawn(make, 0)
    weights.load_weights(model, path)
    return model.backbone
