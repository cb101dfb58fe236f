"""The three ways to fine-tune, and the compiled loop that all of them share."""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data.digits import Split
from experiments.evaluation import row_norms
from experiments.quickstart.network import Params, logits
from ftp_optax import radii, with_ftp

METHODS = {"linear-probe": "Linear probe", "adamw": "AdamW", "ftp": "AdamW + FTP"}

State = tuple[Params, optax.OptState]
Trace = dict[str, Any]  # name -> (steps,), float32


class Recipe(NamedTuple):
    """What is fixed while a model trains, hashable, so that jit can specialise on it.

    Attributes:
      method: a key of `METHODS`.
      steps: length of the cosine schedule, which ends at 0.
      kappa: of FTP; no other method reads it.
      weight_decay: of AdamW, decoupled, towards zero.
      options: further arguments of `with_ftp` by name; no other method reads them.
    """

    method: str
    steps: int
    kappa: float = 1.0
    weight_decay: float = 1e-2
    options: tuple[tuple[str, Any], ...] = ()


def optimizer(
    recipe: Recipe, learning_rate: jax.typing.ArrayLike
) -> optax.GradientTransformation:
    """AdamW on everything, AdamW on the head alone, or AdamW within FTP."""
    schedule = optax.cosine_decay_schedule(learning_rate, recipe.steps)  # pyright: ignore
    adamw = optax.adamw(schedule, weight_decay=recipe.weight_decay)
    if recipe.method == "adamw":
        return adamw
    if recipe.method == "ftp":
        return with_ftp(adamw, kappa=recipe.kappa, **dict(recipe.options))
    if recipe.method == "linear-probe":
        return optax.partition(
            {"head": adamw, "trunk": optax.set_to_zero()},
            lambda params: {k: "head" if k == "head" else "trunk" for k in params},
        )
    raise ValueError(f"method: expected one of {list(METHODS)}, got {recipe.method!r}.")


def batch_order(images: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Indices `(steps, batch_size)`: the images in a new order each time round."""
    rng = np.random.default_rng(seed)
    rounds = -(-steps * batch_size // images)
    order = np.concatenate([rng.permutation(images) for _ in range(rounds)])
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def init_state(recipe: Recipe, learning_rate: float, params: Params) -> State:
    """Start of a run. Copies the params: the loop donates what it is given."""
    return jax.tree.map(jnp.array, params), optimizer(recipe, learning_rate).init(
        params
    )


def mean_loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of images `(n, side, side)` with labels `(n,)`, in nats."""
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits(params, images), labels
    )
    return losses.mean()


def _observed(
    recipe: Recipe, loss: Any, params: Params, opt_state: optax.OptState
) -> Trace:
    if recipe.method != "ftp":
        return {"loss": loss}
    named = radii(opt_state, params).items()
    return {"loss": loss} | {f"radius/{path}": radius for path, radius in named}


def empty_trace(recipe: Recipe, state: State) -> Trace:
    """The trace of a run that has not begun: NaN for each of its steps."""
    names = _observed(recipe, 0.0, *state)
    return {name: np.full(recipe.steps, np.nan, np.float32) for name in names}


@functools.partial(jax.jit, static_argnames="recipe", donate_argnames="state")
def train_chunk(
    recipe: Recipe,
    learning_rate: jax.typing.ArrayLike,
    data: Split,
    state: State,
    order: jax.typing.ArrayLike,
) -> tuple[State, Trace]:
    """Takes `len(order)` steps.

    The learning rate is traced, so that a whole sweep shares one compilation.

    Args:
      recipe: see `Recipe`.
      learning_rate: at the start of the schedule.
      data: what the batches are drawn from.
      state: params and optimizer state; donated.
      order: `(k, batch_size)`, indices into `data`.

    Returns:
      The new state, and a trace of `(k,)` arrays: the `loss`, and with FTP the radius
      of each leaf as `radius/<path>`.
    """
    tx = optimizer(recipe, learning_rate)

    def step(state: State, index: jax.Array) -> tuple[State, Trace]:
        params, opt_state = state
        images = jnp.asarray(data.images)[index]
        labels = jnp.asarray(data.labels)[index]
        loss, grads = jax.value_and_grad(mean_loss)(params, images, labels)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = cast(Params, optax.apply_updates(params, updates))
        return (params, opt_state), _observed(recipe, loss, params, opt_state)

    return jax.lax.scan(step, state, jnp.asarray(order))


@jax.jit
def drifts(start: Params, params: Params) -> dict[str, jax.Array]:
    """Largest L1 norm of a row (an output unit) of the weights' change, by leaf."""
    return row_norms(jax.tree.map(jnp.subtract, params, start))
