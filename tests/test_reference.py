"""Agreement with the NumPy transcription, over randomly drawn problems."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numpy_reference as reference
import trees
from ftp_optax import radii, torch_axes, with_ftp

STEPS = 12

OPTIMIZERS = {
    "sgd": (optax.sgd(0.05), lambda: reference.SGD(0.05)),
    "nesterov": (
        optax.sgd(0.02, 0.9, nesterov=True),
        lambda: reference.SGD(0.02, 0.9, nesterov=True),
    ),
    "coupled decay": (
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.05, 0.9)),
        lambda: reference.SGD(0.05, 0.9, weight_decay=0.1),
    ),
    "adamw": (
        optax.adamw(0.02, weight_decay=0.1),
        lambda: reference.AdamW(0.02, weight_decay=0.1),
    ),
    "lion": (optax.lion(0.01, weight_decay=0.0), lambda: reference.Lion(0.01)),
}

SHAPES = st.sampled_from(
    [(), (1,), (5,), (1, 4), (4, 1), (3, 4), (2, 3, 2), (1, 3, 4), (4, 2, 3, 3)]
)
TREES = st.recursive(
    SHAPES,
    lambda children: (
        st.lists(children, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from("abc"), children, min_size=1, max_size=2)
        | st.tuples(children, st.none()).map(list)  # the only tuples are shapes
    ),
    max_leaves=4,
)


def as_rows(x):
    x = np.asarray(x, dtype=np.float64)
    return x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(1, -1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shapes=TREES,
    kappa=st.sampled_from([0.0, 0.3, 1.0]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    seed=st.integers(0, 2**16),
)
def test_parameters_and_radii_agree_with_the_reference(shapes, kappa, optimizer, seed):
    ours, make_theirs = OPTIMIZERS[optimizer]
    params = trees.random_tree(shapes, seed)
    tx = with_ftp(ours, kappa, axes=torch_axes)
    state = tx.init(params)
    weights = [as_rows(p) for p in jax.tree.leaves(params)]
    project = reference.FastTrainableProjection
    by_hand = [reference.WithFTP(make_theirs(), project(w, kappa)) for w in weights]
    update = jax.jit(tx.update)
    for grads in trees.gradients(params, STEPS, seed + 1):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        gammas = list(radii(state, params, axes=torch_axes).values())
        for i, g in enumerate(jax.tree.leaves(grads)):
            weights[i] = by_hand[i].step(weights[i], as_rows(g))
            gamma = by_hand[i].method.gamma
            np.testing.assert_allclose(gammas[i], gamma, rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(
                as_rows(jax.tree.leaves(params)[i]), weights[i], rtol=2e-5, atol=1e-5
            )


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("bfloat16", 1e-2), ("float16", 2e-3), ("float32", 1e-6), ("float64", 1e-7)],
)
def test_each_step_agrees_with_the_reference_in_every_dtype(
    dtype, tolerance, kappa, x64
):
    # The weights are the library's own at each step: a rounding of the parameters is
    # theirs to keep, and a projection off by a rounding must not pass for an error.
    del x64
    rng = np.random.default_rng(7)
    params = jnp.asarray(rng.normal(size=(4, 6)), dtype=dtype)
    optimizer = optax.sgd(0.05)
    tx = with_ftp(optimizer, kappa, axes=torch_axes)
    state, base_state = tx.init(params), optimizer.init(params)
    method = reference.FastTrainableProjection(as_rows(params), kappa)
    for _ in range(20):
        grads = jnp.asarray(rng.normal(size=(4, 6)) + 0.3, dtype=dtype)
        step, base_state = optimizer.update(grads, base_state, params)
        expected = method.step(as_rows(params), as_rows(step), as_rows(grads))
        updates, state = tx.update(grads, state, params)
        assert updates.dtype == jnp.dtype(dtype)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(
            as_rows(params), expected, rtol=tolerance, atol=tolerance
        )
        gamma = radii(state, params, axes=torch_axes)[""]
        np.testing.assert_allclose(gamma, method.gamma, rtol=2e-3, atol=1e-6)
