"""The link that is given no gradient, and what holds of the whole of the API."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import trees
from ftp_optax import ftp, with_ftp

SHAPES = {"dense/kernel": (5, 3), "dense/bias": (3,), "gain": (), "head/kernel": (3, 2)}


def run_link(base, kappa=1.0):
    """A chain given no gradient, beside the exact form, on the same gradients."""
    initial = trees.random_tree(SHAPES)
    grads = trees.gradients(initial, 30)
    with pytest.warns(UserWarning, match="was not given the gradient"):
        without = list(trees.steps(optax.chain(base, ftp(kappa)), initial, grads))
    exact = trees.steps(with_ftp(base, kappa), initial, grads)
    return [
        ((p, s[1].radii), (q, t[1].radii))
        for (p, s), (q, t) in zip(without, exact, strict=True)
    ]


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("learning_rate", [1e-2, 0.5])
def test_without_the_gradient_the_link_is_exact_after_sgd(learning_rate, kappa):
    for (params, radii), (exact, exact_radii) in run_link(
        optax.sgd(learning_rate), kappa
    ):
        trees.assert_close(params, exact, rtol=0, atol=1e-5)
        np.testing.assert_allclose(radii, exact_radii, rtol=1e-4, atol=1e-6)


def test_without_the_gradient_the_link_approximates_after_adamw():
    pairs = [(radii, exact) for (_, radii), (_, exact) in run_link(optax.adamw(0.05))]
    ours, theirs = np.swapaxes(pairs, 0, 1)
    # It is another trajectory, yet the radii grow over the same steps to like sizes:
    # the preconditioned gradient has the signs of the gradient.
    assert not np.allclose(ours, theirs, rtol=1e-3)
    assert (np.abs(ours[19] - theirs[19]) < 0.5 * theirs[19]).all()


def test_each_public_name_has_a_docstring_with_an_example():
    for name in ftp_optax.__all__:
        documentation = getattr(ftp_optax, name).__doc__
        assert ">>>" in documentation, name


def test_no_default_is_a_callable_so_that_inject_hyperparams_can_tell_schedules():
    for factory in (ftp, with_ftp):
        defaults = [
            parameter.default
            for parameter in inspect.signature(factory).parameters.values()
            if parameter.default is not inspect.Parameter.empty
        ]
        assert all(isinstance(x, type(None) | int | float | str) for x in defaults)


# 10 passes over the params are adamw's own.
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 19.5),
        ({"hypergradient": "active"}, 19.5),
        ({"displacement_dtype": "int8"}, 25.0),
        ({"displacement_dtype": "bfloat16"}, 22.5),
        ({"anchor": "implicit"}, 21.5),
    ],
    ids=["default", "active", "int8", "bfloat16", "implicit"],
)
def test_no_leaf_is_copied_when_params_and_state_are_donated(options, most):
    params = {f"{i}/kernel": jnp.ones((64, 96)) for i in range(6)}
    tx = with_ftp(optax.adamw(1e-3), **options)
    jitted = jax.jit(trees.step_of(tx, jit=False), donate_argnums=(0, 1))
    compiled = jitted.lower(params, tx.init(params), params).compile()
    assert not re.findall(r"\w+\[64,96\]\S* copy\(", compiled.as_text())
    size = sum(leaf.nbytes for leaf in params.values())
    assert compiled.cost_analysis()["bytes accessed"] / size < most
