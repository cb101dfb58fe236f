"""What the radii are kept from: for how long, and from what size on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftp_optax import ftp


def radius_after(sizes):
    """The radius of a leaf, trained at 1e-3 by gradients of one sign and these sizes.

    The first finds the leaf at its anchor and moves no radius.
    """
    tx = ftp(radius_optimizer=optax.sgd(1e-3), initial_radius=0.05)
    params, step = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}

    def update(state, size):
        grad = {"w": jnp.full(2, -size)}
        return tx.update(step, state, params, grad=grad)[1], None

    state, _ = jax.lax.scan(update, tx.init(params), jnp.asarray(sizes, jnp.float32))
    return float(state.radii[0])


def grown(by):
    return pytest.approx(0.05 + 1e-3 * by, rel=1e-4)


def test_a_spike_is_one_beside_the_largest_of_late():
    assert radius_after([1.0, 1.0, 1e-3, 50.0]) == grown(51.001)
    assert radius_after([1.0, 1.0, 1e-3, 150.0]) == grown(1.001)


def test_the_largest_is_forgotten_over_a_thousand_steps():
    assert radius_after([1.0, 1.0, *[1e-3] * 1000, 50.0]) == grown(2.0)


@pytest.mark.parametrize("size", [np.nan, np.inf, 1e25])
def test_what_is_no_number_of_use_is_forgotten_at_once(size):
    assert radius_after([1.0, size, 1.0, 1e6]) == grown(1.0)
    assert radius_after([1.0, 1.0, size, 1e6]) == grown(1.0)
    assert radius_after([1.0, 1.0, size, 50.0]) == grown(51.0)
