"""What holds after every step, and the link in a chain that is given no gradient."""

import inspect
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import trees
from ftp_optax import FTPState, ftp, with_ftp

SHAPES = {"dense/kernel": (5, 3), "dense/bias": (3,), "gain": (), "head/kernel": (3, 2)}

OPTIMIZERS = {
    "sgd": optax.sgd(0.1, 0.9),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "lion": optax.lion(0.03),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_first_step_leaves_constrained_leaves_at_the_anchor(optimizer):
    initial = trees.random_tree(SHAPES)
    grads = trees.gradients(initial, 1)
    plain, _ = trees.feed(optimizer, initial, grads)
    params, (_, state) = trees.feed(with_ftp(optimizer, exclude="head"), initial, grads)
    np.testing.assert_array_equal(state.radii, np.float32(1e-8))
    for name in SHAPES:
        assert not np.allclose(plain[name], initial[name])
        held = plain if name.startswith("head") else initial
        np.testing.assert_allclose(params[name], held[name], rtol=0, atol=1e-8)


def test_rows_within_the_radius_take_the_plain_step():
    # With the radius at infinity no row is ever bound in the first step.
    tx = with_ftp(optax.sgd(0.1), initial_radius=jnp.inf)
    params = trees.random_tree(SHAPES, 0)
    (grads,) = trees.gradients(params, 1)
    updates, _ = tx.update(grads, tx.init(params), params)
    for name in SHAPES:
        np.testing.assert_allclose(updates[name], -0.1 * grads[name], rtol=0, atol=1e-6)


def test_the_wrapper_is_the_chain_given_the_gradient():
    params = trees.random_tree(SHAPES, 0)
    wrapped = with_ftp(optax.adamw(0.05), 0.5, exclude="head")
    chained = optax.chain(optax.adamw(0.05), ftp(0.5, exclude="head"))
    ours, theirs = wrapped.init(params), chained.init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for grads in trees.gradients(params, 10):
        updates, ours = wrapped.update(grads, ours, params)
        expected, theirs = chained.update(grads, theirs, params, grad=grads)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        params = optax.apply_updates(params, updates)


def test_the_wrapper_uses_the_gradient_it_receives_over_one_given_to_it():
    params = trees.random_tree(SHAPES, 0)
    tx = with_ftp(optax.adamw(0.05))
    state = tx.init(params)
    for grads in trees.gradients(params, 3):
        stray = jax.tree.map(lambda g: -7.0 * g, grads)
        updates, next_state = tx.update(grads, state, params)
        same, _ = tx.update(grads, state, params, grad=stray)
        jax.tree.map(np.testing.assert_array_equal, updates, same)
        params, state = optax.apply_updates(params, updates), next_state


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


def count_warnings(tx, jit, **given):
    params = trees.random_tree(SHAPES, 0)
    state = tx.init(params)
    update = jax.jit(tx.update) if jit else tx.update
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for grads in trees.gradients(params, 4):
            give = {"grad": grads} if given.get("grad") else {}
            updates, state = update(grads, state, params, **give)
            params = optax.apply_updates(params, updates)
    return [str(w.message) for w in caught if "ftp" in str(w.message)]


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_a_link_without_the_gradient_warns_once_and_names_the_exact_forms(jit):
    (message,) = count_warnings(optax.chain(optax.adamw(1e-3), ftp()), jit)
    for form in ("with_ftp(optimizer, ...)", "grad=grads"):
        assert form in message


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_there_is_no_warning_with_the_gradient(jit):
    base = optax.adamw(1e-3)
    assert not count_warnings(optax.chain(base, ftp()), jit, grad=True)
    assert not count_warnings(with_ftp(base), jit)


def test_the_state_holds_what_its_docstring_says():
    params = trees.random_tree(SHAPES, 0)
    (_, state) = with_ftp(optax.adamw(0.1), exclude=["head", "gain"]).init(params)
    assert isinstance(state, FTPState)
    assert state.radii.shape == (2,)
    assert state.radii.dtype == jnp.float32
    for tree in (state.anchor, state.displacement):
        assert isinstance(tree["gain"], optax.MaskedNode)
        assert isinstance(tree["head/kernel"], optax.MaskedNode)
    for name in ("dense/kernel", "dense/bias"):
        np.testing.assert_array_equal(state.anchor[name], params[name])
        np.testing.assert_array_equal(state.displacement[name], 0 * params[name])


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
