"""FTP in every floating-point dtype: what is kept, and in which the arithmetic is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from contract_runs import (
    assert_as_by_hand,
    assert_same,
    assert_within_radii,
    differ,
    feed,
    gradients,
    pretrained,
    row_norms,
)
from ftp_optax import with_ftp
from layouts import flat


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_projection_holds_to_the_rounding_of_the_params_dtype(dtype):
    params = pretrained(dtype)
    tx = with_ftp(optax.sgd(1e-1))
    trained, state = params, tx.init(params)
    for i, g in enumerate(gradients(30, params)):
        trained, state = feed(tx, trained, [g], state)
        assert_within_radii(trained, params, ftp_optax.radii(state, params))
        if i == 0:
            assert_same(trained, params)
    assert differ(trained, params, by=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_updates_have_the_dtype_of_the_params_and_the_state_is_float32(dtype):
    params = pretrained(dtype)
    tx = with_ftp(optax.sgd(1e-1))
    updates, (_, state) = jax.jit(tx.update)(params, tx.init(params), params)

    def dtypes(tree: Any) -> set[str]:
        return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}

    assert dtypes(updates) == dtypes(state.anchor) == {dtype}
    assert dtypes((state.displacement, state.radii)) == {"float32"}
    assert dtypes(state.radius_state) == {"float32", "int32"}


def test_float16_rows_whose_norm_overflows_float16_are_projected_in_float32():
    anchor = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    params = {"kernel": jnp.full((1000, 2), 100.0, jnp.float16).at[:, 1].set(50.0)}
    tx = with_ftp(optax.sgd(1.0), initial_radius=8e4)
    grads = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    assert float(jnp.finfo(jnp.float16).max) < 1000 * 100.0
    trained, state = feed(tx, params, [grads], tx.init(anchor))
    assert trained["kernel"].dtype == jnp.float16
    assert float(ftp_optax.radii(state, params)["kernel"]) == 8e4
    expected = np.full((1000, 2), (80.0, 50.0), np.float16)
    np.testing.assert_array_equal(trained["kernel"], expected)


def test_float64_params_are_projected_in_float64():
    with jax.enable_x64(True):
        params = pretrained(jnp.float64)
        grads = gradients(12, params)
        tx = with_ftp(optax.sgd(0.1))
        trained, state = feed(tx, params, grads)
        radii = ftp_optax.radii(state, params)
        assert {u.dtype for u in jax.tree.leaves(state[1].displacement)} == {
            jnp.dtype("float64")
        }
        assert {w.dtype for w in jax.tree.leaves(trained)} == {jnp.dtype("float64")}
        assert_as_by_hand(trained, state, params, grads)
        # The radii are float32. Given them, the projection is that of float64.
        for name, w in flat(trained).items():
            w0, c = flat(params)[name], flat(state[1].displacement)[name]
            assert radii[name].dtype == jnp.float32
            factors = np.clip(float(radii[name]) / (row_norms(c) + 1e-8), 0, 1)
            assert np.any(factors < 1)
            np.testing.assert_allclose(w, w0 + factors * c, rtol=1e-14, atol=1e-15)
