"""Random gradients that turn round, so that radii move both ways; runs on them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftp_optax import radii


def random_tree(shapes, seed):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32)
        for name, shape in shapes.items()
    }


def gradients(params, steps, seed=1):
    """A pull in one direction for two thirds of the steps, then back, under noise."""
    rng = np.random.default_rng(seed)
    names, leaves = params.keys(), params.values()
    pulls = [rng.normal(size=leaf.shape) for leaf in leaves]
    drawn = []
    for t in range(steps):
        sign = 1.0 if t < 2 * steps / 3 else -1.0
        drawn.append(
            {
                name: jnp.asarray(
                    sign * pull + 0.5 * rng.normal(size=pull.shape), leaf.dtype
                )
                for name, pull, leaf in zip(names, pulls, leaves, strict=True)
            }
        )
    return drawn


def run(tx, params, grads, axes=None):
    """All params and radii after each step: lists of trees and of {path: radius}."""
    state = tx.init(params)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    seen, seen_radii = [], []
    for g in grads:
        params, state = step(params, state, g)
        seen.append(params)
        seen_radii.append(radii(state, params, axes=axes))
    return seen, seen_radii
