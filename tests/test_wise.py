"""WiSE-FT: interpolation of pre-trained and fine-tuned weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
import relatives_reference as reference
from ftp_optax import wise


@settings(max_examples=25, deadline=None, derandomize=True)
@given(alpha=st.floats(0.0, 1.0), seed=st.integers(0, 2**16))
def test_it_agrees_with_the_reference(alpha, seed):
    w_0, w_1 = np.random.default_rng(seed).normal(size=(2, 5)).astype(np.float32)
    found = wise({"w": w_0}, {"w": w_1}, alpha)["w"]
    expected = reference.wise(np.float64(w_0), np.float64(w_1), alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_both_ends_are_exact(dtype):
    # Of very different sizes: w0 + (w1 - w0) would lose the smaller one.
    rng = np.random.default_rng(0)
    pretrained = {"w": jnp.asarray(1e4 * rng.normal(size=(4, 3)), dtype)}
    finetuned = {"w": jnp.asarray(1e-3 * rng.normal(size=(4, 3)), dtype)}
    layouts.assert_same(wise(pretrained, finetuned, 0.0), pretrained)
    layouts.assert_same(wise(pretrained, finetuned, 1.0), finetuned)
    layouts.assert_same(wise(pretrained, finetuned, 1), finetuned)
    layouts.assert_same(wise(finetuned, finetuned, 0.0), finetuned)


def test_half_way_is_an_incremental_update_of_optax():
    pretrained, finetuned = layouts.draw(0), layouts.draw(1)
    expected = optax.incremental_update(finetuned, pretrained, 0.5)
    layouts.assert_same(wise(pretrained, finetuned), expected)


def test_float64_is_interpolated_in_float64(x64):
    del x64
    w_0, w_1 = np.random.default_rng(0).normal(size=(2, 50))
    found = wise({"w": w_0}, {"w": w_1}, 0.3)["w"]
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, reference.wise(w_0, w_1, 0.3), rtol=1e-15)


def test_half_precision_is_interpolated_in_float32():
    w_0, w_1 = np.random.default_rng(0).normal(size=(2, 200))
    w_0, w_1 = jnp.asarray(w_0, "bfloat16"), jnp.asarray(w_1, "bfloat16")
    exact = reference.wise(np.float64(w_0), np.float64(w_1), 0.3)
    expected = jnp.asarray(exact, jnp.float32).astype("bfloat16")
    layouts.assert_same({"w": wise(w_0, w_1, 0.3)}, {"w": expected})


def test_the_dtypes_are_those_of_the_fine_tuned_weights():
    pretrained = {"a": jnp.ones(2, "float16"), "b": jnp.ones(2)}
    finetuned = {"a": jnp.zeros(2), "b": jnp.zeros(2, "bfloat16")}
    found = wise(pretrained, finetuned, 0.25)
    assert found["a"].dtype == jnp.float32
    assert found["b"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["a"], [0.75, 0.75])


def test_integer_leaves_are_those_of_the_fine_tuned_weights():
    pretrained = {"w": jnp.zeros(2), "count": jnp.asarray(3)}
    finetuned = {"w": jnp.ones(2), "count": jnp.asarray(7)}
    found = wise(pretrained, finetuned, 0.5)
    layouts.assert_same(found, {"w": jnp.full(2, 0.5), "count": jnp.asarray(7)})
    counts = {"count": jnp.asarray(7)}
    layouts.assert_same(wise({"count": jnp.asarray(3)}, counts), counts)


@pytest.mark.parametrize("tree", [{}, (), {"a": None}], ids=repr)
def test_an_empty_tree_is_left_empty(tree):
    assert wise(tree, tree, 0.5) == tree


def test_bare_arrays_python_floats_and_none_are_leaves_like_any_other():
    np.testing.assert_array_equal(wise(jnp.zeros(2), jnp.ones(2), 0.25), [0.25, 0.25])
    found = wise({"a": 0.0, "b": None}, {"a": 1.0, "b": None}, 0.25)
    assert float(found["a"]) == 0.25
    assert found["b"] is None


def test_one_compiled_function_serves_every_alpha():
    pretrained, finetuned = layouts.draw(0), layouts.draw(1)
    compiled = jax.jit(wise)
    for alpha in (0.0, 0.3, 1.0):
        found = compiled(pretrained, finetuned, alpha)
        layouts.assert_close(found, wise(pretrained, finetuned, alpha))
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha: expected a number in \[0, 1\], got"):
        wise({"w": jnp.ones(2)}, {"w": jnp.ones(2)}, alpha)


def test_an_alpha_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"alpha: expected a number"):
        wise({"w": jnp.ones(2)}, {"w": jnp.ones(2)}, "0.5")


def test_trees_that_differ_are_refused():
    finetuned = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    with pytest.raises(ValueError, match=r"pretrained: .*it lacks 'dense/bias'"):
        wise({"dense": {"kernel": jnp.ones((2, 3))}}, finetuned)
    other = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(3)}}
    with pytest.raises(
        ValueError, match=r"pretrained: .*'dense/kernel' has shape \(3, 2\), expected"
    ):
        wise(other, finetuned)
