"""The base optimizer of a recipe: its schedule, and a rate for each layer."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.methods import leaf_path

_BLOCK = re.compile(r"(.*/\d+)/.*")  # the innermost numbered module that a leaf is in


def optimizer(
    recipe: Any, rate: optax.Schedule, layers: Sequence[str] = ()
) -> optax.GradientTransformation:
    """AdamW or SGD as the recipe describes it.

    Args:
      recipe: the group of the configuration.
      rate: steps -> learning rate.
      layers: paths of the params, from the input to the head; read where layers have
        rates of their own.
    """
    links = []
    if recipe.clip_norm:
        links.append(optax.clip_by_global_norm(recipe.clip_norm))
    if recipe.optimizer == "adamw":
        links.append(optax.adamw(rate, weight_decay=recipe.weight_decay))
    else:
        links.append(optax.add_decayed_weights(recipe.weight_decay))
        links.append(optax.sgd(rate, recipe.momentum, nesterov=True))
    if recipe.layer_decay != 1:
        links.append(scaled(layer_scales(layers, recipe.layer_decay)))
    return optax.chain(*links)


def schedule(
    recipe: Any,
    warmup_steps: int,
    learning_rate: jax.typing.ArrayLike,
    steps_per_epoch: int = 1,
) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine down to `final_scale` of the highest.

    Where the recipe says so, the rate stays the same for an epoch.
    """
    shape = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else 1.0,
        peak_value=1.0,
        warmup_steps=warmup_steps,
        decay_steps=recipe.steps,
        end_value=recipe.final_scale,
    )
    held = steps_per_epoch if recipe.decay_each == "epoch" else 1

    def rate(count: jax.typing.ArrayLike) -> jax.Array:
        began = jnp.asarray(count) // held * held
        return jnp.asarray(learning_rate * shape(began))

    return rate


def layer_scales(layers: Sequence[str], decay: float) -> dict[str, float]:
    """By path, `decay` to the number of layers between a leaf and the head.

    A layer is a block, such as `backbone/blocks/3`; what comes before the first block
    is one layer, and what comes after the last, the head included, is another (Clark et
    al. 2020, Bao et al. 2022).
    """
    blocks = [match and match[1] for match in map(_BLOCK.fullmatch, layers)]
    first, *_ = [i for i, block in enumerate(blocks) if block] or [0]
    place = lambda i: blocks[i] or ("stem" if i < first else "head")
    depths = [*dict.fromkeys(map(place, range(len(layers))))]
    last = len(depths) - 1
    return {
        path: decay ** (last - depths.index(place(i))) for i, path in enumerate(layers)
    }


def scaled(scales: dict[str, float]) -> optax.GradientTransformation:
    """Multiplies the update of each leaf by a number of its own."""
    return optax.stateless(
        lambda updates, _: jax.tree.map_with_path(
            lambda path, update: scales[leaf_path(path)] * update, updates
        )
    )
