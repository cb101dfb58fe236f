"""The methods that are compared; a new one is one line of `METHODS`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from ftp_optax import (
    TPGM,
    digrap,
    l2_sp,
    mars_pgm,
    mars_sp,
    tpgm,
    with_ftp,
    with_spd,
)

Params = dict[str, Any]  # nested, float32 leaves
Batch = tuple[jax.Array, jax.Array]  # images (n, side, side, 3), uint8; labels (n,)
Loss = Callable[[Params, Batch], jax.Array]
Init = Callable[[Params], Any]
# (params, state, batch, held-out batch) -> (params, state, loss); params and state come
# back in the order in which they are donated, or every buffer would be copied.
Step = Callable[[Params, Any, Batch, Batch], tuple[Params, Any, jax.Array]]

LEARNING_RATE = 1e-4


class Method(NamedTuple):
    """A way to fine-tune: its name, and how it trains on a loss."""

    label: str
    build: Callable[[Loss], tuple[Init, Step]]
    standard: bool = True  # part of the default comparison


def transformation(
    tx: optax.GradientTransformation,
) -> Callable[[Loss], tuple[Init, Step]]:
    """Training with an optax transformation."""
    tx = optax.with_extra_args_support(tx)

    def build(loss: Loss) -> tuple[Init, Step]:
        def step(
            params: Params, state: Any, batch: Batch, held_out: Batch
        ) -> tuple[Params, Any, jax.Array]:
            del held_out
            value, grads = jax.value_and_grad(loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return _applied(params, updates), state, value

        return tx.init, step

    return build


def trained_on_held_out(
    optimizer: optax.GradientTransformation, method: TPGM
) -> Callable[[Loss], tuple[Init, Step]]:
    """Training with radii that take one iteration on a held-out batch every step."""

    def build(loss: Loss) -> tuple[Init, Step]:
        def init(params: Params) -> Any:
            return optimizer.init(params), method.init(params)

        def step(
            params: Any, state: Any, batch: Batch, held_out: Batch
        ) -> tuple[Any, Any, jax.Array]:
            inner, radii = state
            value, grads = jax.value_and_grad(loss)(params, batch)
            updates, inner = optimizer.update(grads, inner, params)
            params = _applied(params, updates)
            radii = method.update(radii, params, lambda p: loss(p, held_out))
            return method.project(params, radii), (inner, radii), value

        return init, step

    return build


def adamw() -> optax.GradientTransformation:
    """The optimizer that every method stands on."""
    return optax.adamw(LEARNING_RATE)


def _applied(params: Params, updates: optax.Updates) -> Any:
    return optax.apply_updates(params, updates)


PLAIN = "plain"
METHODS = {
    PLAIN: Method("AdamW", transformation(adamw())),
    "l2-sp": Method("L2-SP", transformation(optax.chain(l2_sp(0.01), adamw()))),
    "mars-sp": Method(
        "MARS-SP", transformation(optax.chain(mars_sp(0.01), adamw())), standard=False
    ),
    "mars-pgm": Method("MARS-PGM", transformation(optax.chain(adamw(), mars_pgm(0.1)))),
    "digrap": Method(
        "DiGraP", transformation(optax.chain(digrap(), adamw())), standard=False
    ),
    "spd": Method("SPD", transformation(with_spd(adamw(), 0.5))),
    "ftp": Method("FTP", transformation(with_ftp(adamw()))),
    "tpgm": Method("TPGM", trained_on_held_out(adamw(), tpgm())),
}
STANDARD = tuple(name for name, method in METHODS.items() if method.standard)
