"""What holds after every step, and the link in a chain that is given no gradient."""

import inspect
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ftp_optax
import trajectory
from ftp_optax import FTPState, ftp, with_ftp

SHAPES = {"dense/kernel": (5, 3), "dense/bias": (3,), "gain": (), "head/kernel": (3, 2)}
ROUNDING = 1e-5

OPTIMIZERS = {
    "sgd": optax.sgd(0.1, 0.9),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "lion": optax.lion(0.03),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
}


def row_norms(name, displacement):
    # The kernels' rows are their last axis; every other leaf is one row.
    if name.endswith("kernel"):
        return np.abs(displacement).sum(axis=0)
    return np.abs(displacement).sum(keepdims=True)


def constrained_steps(optimizer, num_steps=25, seed=0, **options):
    """Yields params, the plain params and the FTPState after each step."""
    params = trajectory.random_tree(SHAPES, seed)
    tx = with_ftp(optimizer, exclude="head", **options)
    state = tx.init(params)
    plain, plain_state = params, optimizer.init(params)

    @jax.jit
    def step(params, state, plain, plain_state, grads):
        updates, state = tx.update(grads, state, params)
        plain_updates, plain_state = optimizer.update(grads, plain_state, plain)
        params = optax.apply_updates(params, updates)
        return params, state, optax.apply_updates(plain, plain_updates), plain_state

    for grads in trajectory.gradients(params, num_steps, seed + 1):
        # The optimizer's own state must see the same gradients, clipped alike.
        params, state, plain, plain_state = step(
            params, state, plain, plain_state, grads
        )
        yield params, plain, state[1]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    kappa=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**16),
    initial_radius=st.sampled_from([1e-8, 0.3, float("inf")]),
)
def test_every_row_stays_within_its_radius_and_radii_within_their_bounds(
    optimizer, kappa, seed, initial_radius
):
    initial = trajectory.random_tree(SHAPES, seed)
    for params, _, state in constrained_steps(
        OPTIMIZERS[optimizer],
        num_steps=10,
        seed=seed,
        kappa=kappa,
        initial_radius=initial_radius,
    ):
        names = [name for name in sorted(SHAPES) if not name.startswith("head")]
        assert state.radii.shape == (len(names),)
        for gamma, name in zip(state.radii, names, strict=True):
            moved = row_norms(name, np.asarray(params[name] - initial[name]))
            # Weights of order 1 in float32 are exact to 1e-7 each.
            slack = ROUNDING * gamma + 1e-7 * initial[name].size
            assert (moved <= gamma + slack).all()
            largest = row_norms(name, np.asarray(state.displacement[name])).max()
            assert 1e-8 * (1 - ROUNDING) <= gamma <= (largest + 1e-8) * (1 + ROUNDING)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_the_first_step_leaves_constrained_leaves_at_the_anchor(optimizer):
    initial = trajectory.random_tree(SHAPES, 0)
    params, plain, state = next(constrained_steps(OPTIMIZERS[optimizer]))
    np.testing.assert_array_equal(state.radii, np.float32(1e-8))
    for name in SHAPES:
        if name.startswith("head"):
            assert not np.allclose(params[name], initial[name])
        else:
            np.testing.assert_allclose(params[name], initial[name], rtol=0, atol=1e-8)
            assert not np.allclose(plain[name], initial[name])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion"])
def test_an_excluded_leaf_equals_the_plain_optimizer_bit_for_bit(optimizer):
    for params, plain, _ in constrained_steps(OPTIMIZERS[optimizer]):
        np.testing.assert_array_equal(params["head/kernel"], plain["head/kernel"])


def test_rows_within_the_radius_take_the_plain_step():
    # With the radius at infinity no row is ever bound in the first step.
    tx = with_ftp(optax.sgd(0.1), initial_radius=jnp.inf)
    params = trajectory.random_tree(SHAPES, 0)
    (grads,) = trajectory.gradients(params, 1)
    updates, _ = tx.update(grads, tx.init(params), params)
    for name in SHAPES:
        np.testing.assert_allclose(updates[name], -0.1 * grads[name], rtol=0, atol=1e-6)


def test_the_wrapper_is_the_chain_given_the_gradient():
    params = trajectory.random_tree(SHAPES, 0)
    wrapped = with_ftp(optax.adamw(0.05), 0.5, exclude="head")
    chained = optax.chain(optax.adamw(0.05), ftp(0.5, exclude="head"))
    ours, theirs = wrapped.init(params), chained.init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for grads in trajectory.gradients(params, 10):
        updates, ours = wrapped.update(grads, ours, params)
        expected, theirs = chained.update(grads, theirs, params, grad=grads)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        params = optax.apply_updates(params, updates)


def test_the_wrapper_uses_the_gradient_it_receives_over_one_given_to_it():
    params = trajectory.random_tree(SHAPES, 0)
    tx = with_ftp(optax.adamw(0.05))
    state = tx.init(params)
    for grads in trajectory.gradients(params, 3):
        stray = jax.tree.map(lambda g: -7.0 * g, grads)
        updates, next_state = tx.update(grads, state, params)
        same, _ = tx.update(grads, state, params, grad=stray)
        jax.tree.map(np.testing.assert_array_equal, updates, same)
        params, state = optax.apply_updates(params, updates), next_state


def run_link(base, kappa=1.0, num_steps=30):
    """A chain given no gradient, beside the exact form, on the same gradients."""
    initial = trajectory.random_tree(SHAPES, 0)
    grads = trajectory.gradients(initial, num_steps)
    link = optax.chain(base, ftp(kappa))
    with pytest.warns(UserWarning, match="was not given the gradient"):
        without = trajectory.run(link, initial, grads)
    return without, trajectory.run(with_ftp(base, kappa), initial, grads)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("learning_rate", [1e-2, 0.5])
def test_without_the_gradient_the_link_is_exact_after_sgd(learning_rate, kappa):
    (params, radii), (exact, exact_radii) = run_link(optax.sgd(learning_rate), kappa)
    for name in SHAPES:
        for ours, theirs in zip(params, exact, strict=True):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5)
        for ours, theirs in zip(radii, exact_radii, strict=True):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


def test_without_the_gradient_the_link_approximates_after_adamw():
    (_, radii), (_, exact_radii) = run_link(optax.adamw(0.05))
    ours = np.stack([[float(r[name]) for name in SHAPES] for r in radii])
    theirs = np.stack([[float(r[name]) for name in SHAPES] for r in exact_radii])
    # It is another trajectory, yet the radii grow over the same steps to like sizes:
    # the preconditioned gradient has the signs of the gradient.
    assert not np.allclose(ours, theirs, rtol=1e-3)
    assert (np.abs(ours[19] - theirs[19]) < 0.5 * theirs[19]).all()


def count_warnings(tx, jit, **given):
    params = trajectory.random_tree(SHAPES, 0)
    state = tx.init(params)
    update = jax.jit(tx.update) if jit else tx.update
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for grads in trajectory.gradients(params, 4):
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
    params = trajectory.random_tree(SHAPES, 0)
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


@pytest.mark.parametrize("hypergradient", ["published", "active"])
def test_no_leaf_is_copied_when_params_and_state_are_donated(hypergradient):
    # Seen in the compiled program: 10 passes over the params are adamw's own.
    params = {f"{i}/kernel": jnp.ones((64, 96)) for i in range(6)}
    tx = with_ftp(optax.adamw(1e-3), hypergradient=hypergradient)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
        params, tx.init(params), params
    )
    compiled = lowered.compile()
    copies = re.findall(r"f32\[64,96\]\S* copy\(", compiled.as_text())
    assert not copies
    size = sum(leaf.nbytes for leaf in params.values())
    passes = compiled.cost_analysis()["bytes accessed"] / size
    assert passes < 19.5
