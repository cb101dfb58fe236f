"""Trees of parameters without a model; a new one is one line of `TREES`.

Each is a nested dict of shapes, named as flax names them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Shapes = dict[str, Any]  # nested, tuples of int at the leaves


class Tree(NamedTuple):
    """A tree by name: what it is called in a table, and its shapes."""

    label: str
    shapes: Callable[[], Shapes]


def vit(
    width: int = 768, depth: int = 12, heads: int = 12, patch: int = 16
) -> dict[str, Any]:
    """A ViT at 224 px with a head for 1000 classes; by default B/16."""
    head_dim, mlp, patches = width // heads, 4 * width, (224 // patch) ** 2
    project_in = {"kernel": (width, heads, head_dim), "bias": (heads, head_dim)}
    norm = {"scale": (width,), "bias": (width,)}
    block = {
        "norm1": norm,
        "attention": {
            **dict.fromkeys(("query", "key", "value"), project_in),
            "out": {"kernel": (heads, head_dim, width), "bias": (width,)},
        },
        "norm2": norm,
        "mlp": {
            "linear1": {"kernel": (width, mlp), "bias": (mlp,)},
            "linear2": {"kernel": (mlp, width), "bias": (width,)},
        },
    }
    return {
        "patch": {"kernel": (patch, patch, 3, width), "bias": (width,)},
        "cls": (1, 1, width),
        "pos_embed": (1, patches + 1, width),
        "blocks": {f"{i}": block for i in range(depth)},
        "norm": norm,
        "head": {"kernel": (width, 1000), "bias": (1000,)},
    }


def small_leaves(count: int) -> Shapes:
    """Small leaves of mixed shapes: kernels, biases and convolutions by turns."""
    shapes = ((64, 64), (64,), (3, 3, 16, 32), (128,), (32, 4, 24), (96, 40), (40,))
    kinds = ("kernel", "bias", "kernel", "scale", "kernel", "kernel", "bias")
    return {
        f"layer{i:04}": {kinds[i % len(kinds)]: shapes[i % len(shapes)]}
        for i in range(count)
    }


def even(num_params: int, leaves: int) -> Shapes:
    """Kernels of one size; both axes are multiples of 8, so that devices share them."""
    size = num_params / leaves
    rows = max(8, round(math.sqrt(size) / 8) * 8)
    columns = max(8, round(size / rows / 8) * 8)
    return {f"layer{i:04}": {"kernel": (rows, columns)} for i in range(leaves)}


def size(shapes: Shapes) -> int:
    """The number of parameters."""
    leaves = jax.tree.leaves(shapes, is_leaf=lambda node: isinstance(node, tuple))
    return sum(map(math.prod, leaves))


def drawn(shapes: Shapes, seed: int, scale: float, dtype: Any = jnp.float32) -> Any:
    """Arrays of these shapes with normal values, each in a buffer of its own."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> jax.Array:
        values = rng.standard_normal(shape, np.float32)
        values *= scale
        return jnp.array(values, dtype)

    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


TREES = {
    "vit-b": Tree("ViT-B/16", vit),
    "leaves-400": Tree("400 small leaves", lambda: small_leaves(400)),
    "tiny": Tree("7 small leaves", lambda: small_leaves(7)),
}
