"""FTP inside the transformations of optax that mask, group, wrap or schedule it."""

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
)
from ftp_optax import ftp, with_ftp

MASK = {"body": True, "head": False}


# Masks and groups


def test_masked_constrains_the_true_part_and_passes_the_rest_through():
    params = pretrained()
    grads = gradients(6, params)
    tx = optax.masked(with_ftp(optax.adamw(1e-2)), MASK)
    state = tx.init(params)
    updates: Any = tx.update(grads[0], state, params)[0]
    assert_same(updates["head"], grads[0]["head"])
    trained, state = feed(tx, params, grads)
    alone = [{"body": g["body"]} for g in grads]
    expected, _ = feed(with_ftp(optax.adamw(1e-2)), {"body": params["body"]}, alone)
    assert_same(trained["body"], expected["body"])
    radii = ftp_optax.radii(state, params)
    assert list(radii) == ["body/bias", "body/kernel"]
    assert_within_radii(trained, params, radii)


def test_under_a_mask_the_anchor_is_reset_to_a_tree_of_all_the_params():
    params = pretrained()
    anchor = jax.tree.map(lambda w: w + 1.0, params)
    tx = optax.masked(with_ftp(optax.sgd(1e-2)), MASK)
    state = ftp_optax.reset_anchor(tx.init(params), anchor)
    trained, state = feed(tx, params, gradients(1, params), state)
    # The first step leads to the anchor, to within the smallest radius.
    assert_same(trained["body"], anchor["body"], rtol=1e-6, atol=1e-6)
    assert_within_radii(trained, anchor, ftp_optax.radii(state, params))


def test_a_masked_link_takes_grad_with_mask_compatible_extra_args():
    params = pretrained()
    grads = gradients(6, params)
    link = optax.chain(optax.adamw(1e-2), ftp())
    tx = optax.masked(link, MASK, mask_compatible_extra_args=True)
    trained, state = feed(tx, params, grads, grad=True)
    wrapper = optax.masked(with_ftp(optax.adamw(1e-2)), MASK)
    expected, expected_state = feed(wrapper, params, grads)
    assert_same(trained, expected)
    assert_same(state.inner_state[1], expected_state.inner_state[1])
    with pytest.raises(ValueError, match="mask_compatible_extra_args=True"):
        feed(optax.masked(link, MASK), params, grads, grad=True)


def test_partition_trains_each_group_with_its_own_kappa():
    params = pretrained()
    grads = gradients(8, params, drift=0.3)
    kappas = {"body": 1.0, "head": 0.0}
    rules: dict[Any, Any] = {
        name: with_ftp(optax.adam(1e-2), kappa) for name, kappa in kappas.items()
    }
    tx = optax.partition(rules, {"body": "body", "head": "head"})
    trained, state = feed(tx, params, grads)
    radii = ftp_optax.radii(state, params)
    assert sorted(radii) == ["body/bias", "body/kernel", "head/bias", "head/kernel"]
    assert_within_radii(trained, params, radii)
    for name in rules:
        own = [{name: g[name]} for g in grads]
        expected, own_state = feed(rules[name], {name: params[name]}, own)
        assert_same(trained[name], expected[name])
        for path, radius in ftp_optax.radii(own_state, {name: params[name]}).items():
            assert radii[path] == radius
    other, _ = feed(with_ftp(optax.adam(1e-2), 1.0), params, grads)
    assert differ(trained["head"], other["head"])


def test_a_partitioned_link_takes_grad_with_mask_compatible_extra_args():
    params = pretrained()
    grads = gradients(6, params)
    tx = optax.partition(
        {"ftp": optax.chain(optax.adamw(1e-2), ftp()), "plain": optax.adamw(1e-2)},
        {"body": "ftp", "head": "plain"},
        mask_compatible_extra_args=True,
    )
    trained, _ = feed(tx, params, grads, grad=True)
    expected, _ = feed(with_ftp(optax.adamw(1e-2), exclude="head"), params, grads)
    assert_same(trained, expected)


# Wrappers around the optimizer


def test_multi_steps_equals_the_large_batch():
    params = pretrained()
    rng = np.random.default_rng(2)
    outer, micro, size = 6, 4, 8
    x = jnp.asarray(rng.normal(size=(outer, micro * size, 3)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(outer, micro * size, 2)), jnp.float32)

    def loss(p: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        hidden = jnp.tanh(x @ p["body"]["kernel"] + p["body"]["bias"][None])
        out = hidden @ p["head"]["kernel"] + p["head"]["bias"][None]
        return jnp.mean((out - y) ** 2)

    tx = with_ftp(optax.adamw(1e-2, weight_decay=0.1))
    accumulated = optax.MultiSteps(tx, every_k_schedule=micro)

    @jax.jit
    def large(p: Any, state: Any, x: jax.Array, y: jax.Array):
        updates, state = tx.update(jax.grad(loss)(p, x, y), state, p)
        return optax.apply_updates(p, updates), state

    @jax.jit
    def small(p: Any, state: Any, x: jax.Array, y: jax.Array):
        updates, state = accumulated.update(jax.grad(loss)(p, x, y), state, p)
        return optax.apply_updates(p, updates), state

    p_large, s_large = params, tx.init(params)
    p_small, s_small = params, accumulated.init(params)
    for i in range(outer):
        p_large, s_large = large(p_large, s_large, x[i], y[i])
        before = p_small
        for j in range(micro):
            assert_same(p_small, before)
            part = slice(j * size, (j + 1) * size)
            p_small, s_small = small(p_small, s_small, x[i, part], y[i, part])
        assert_same(p_small, p_large, rtol=1e-6, atol=2e-6)
    # The mean of four gradients rounds otherwise than the gradient of the mean.
    radii = optax.tree.get(s_small, "radii")
    np.testing.assert_allclose(radii, optax.tree.get(s_large, "radii"), rtol=1e-4)
    assert np.all(np.asarray(radii) > 1e-3)


def test_inject_hyperparams_schedules_kappa():
    params = pretrained()
    grads = gradients(12, params, drift=0.3)
    schedule = optax.linear_schedule(1.0, 0.0, 8)
    tx = optax.inject_hyperparams(with_ftp)(optax.sgd(0.1), kappa=schedule)
    trained, state = feed(tx, params, grads)
    kappas = np.asarray([schedule(i) for i in range(12)])
    assert_as_by_hand(trained, state, params, grads, kappa=kappas)
    constant, _ = feed(with_ftp(optax.sgd(0.1), 1.0), params, grads)
    assert differ(trained, constant)


def test_an_injected_kappa_can_be_changed_between_steps():
    params = pretrained()
    grads = gradients(12, params, drift=0.3)
    tx = optax.inject_hyperparams(with_ftp)(optax.sgd(0.1), kappa=1.0)
    trained, state = feed(tx, params, grads[:5])
    state.hyperparams["kappa"] = jnp.asarray(0.25)
    trained, state = feed(tx, trained, grads[5:], state)
    assert_as_by_hand(trained, state, params, grads, kappa=[1.0] * 5 + [0.25] * 7)
    constant, _ = feed(tx, params, grads)
    assert differ(trained, constant)


RADIUS_SCHEDULE = optax.exponential_decay(3e-2, 4, 0.5)


@pytest.mark.parametrize(
    "radius_optimizer",
    [
        optax.adam(RADIUS_SCHEDULE),
        optax.inject_hyperparams(optax.adam)(learning_rate=RADIUS_SCHEDULE),
    ],
    ids=["scheduled", "injected"],
)
def test_the_learning_rate_of_the_radii_follows_a_schedule(radius_optimizer):
    params = pretrained()
    grads = gradients(12, params)
    tx = with_ftp(optax.sgd(0.1), radius_optimizer=radius_optimizer)
    trained, state = feed(tx, params, grads)
    rates = np.asarray([RADIUS_SCHEDULE(i) for i in range(12)])
    assert_as_by_hand(trained, state, params, grads, radius_rate=rates)


def test_an_injected_radius_learning_rate_can_be_changed_between_steps():
    params = pretrained()
    grads = gradients(12, params)
    radius_optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
    tx = with_ftp(optax.sgd(0.1), radius_optimizer=radius_optimizer)
    trained, state = feed(tx, params, grads[:5])
    state = optax.tree.set(state, learning_rate=jnp.asarray(2e-3))
    trained, state = feed(tx, trained, grads[5:], state)
    rates = [1e-2] * 5 + [2e-3] * 7
    assert_as_by_hand(trained, state, params, grads, radius_rate=rates)


def test_apply_if_finite_leaves_the_state_as_it_was_after_a_nan():
    params = pretrained()
    grads = gradients(6, params)
    tx = optax.apply_if_finite(with_ftp(optax.adamw(1e-2)), max_consecutive_errors=3)
    trained, state = feed(tx, params, grads[:3])
    broken = jax.tree.map(lambda g: g.at[..., 0].set(jnp.nan), grads[3])
    after, after_state = feed(tx, trained, [broken], state)
    assert_same(after, trained)
    assert_same(after_state.inner_state, state.inner_state)
    assert int(after_state.total_notfinite) == 1
    resumed, _ = feed(tx, after, grads[3:], after_state)
    expected, _ = feed(tx, params, grads)
    assert_same(resumed, expected)


@pytest.mark.parametrize(
    ("inner", "entry"),
    [
        (optax.chain(optax.clip(1.0), optax.adamw(1e-2)), jnp.inf),
        (optax.chain(optax.zero_nans(), optax.adamw(1e-2)), jnp.nan),
        (optax.apply_if_finite(optax.adamw(1e-2), 3), jnp.nan),
    ],
    ids=["clip", "zero_nans", "apply_if_finite"],
)
def test_a_gradient_that_the_optimizer_handles_leaves_ftp_finite(inner, entry):
    params = pretrained()
    grads = gradients(6, params)
    first = jax.tree.map(lambda g: g.at[..., 0].set(entry), grads[3])
    tx = with_ftp(inner)
    trained, state = feed(tx, params, grads[:3])
    trained, state = feed(tx, trained, [first, *grads[4:]], state)
    for leaf in jax.tree.leaves((trained, state)):
        assert np.all(np.isfinite(leaf))
    assert_within_radii(trained, params, ftp_optax.radii(state, trained))


def test_clipping_before_ftp_equals_feeding_clipped_gradients():
    params = pretrained()
    grads = gradients(8, params)
    inner = with_ftp(optax.adamw(1e-2))
    tx = optax.chain(optax.clip_by_global_norm(0.5), inner)
    trained, state = feed(tx, params, grads)
    norms = [optax.tree.norm(g) for g in grads]
    assert min(norms) > 0.5
    clipped = [
        jax.tree.map(lambda leaf, n=norm: leaf / n * 0.5, g)
        for g, norm in zip(grads, norms, strict=True)
    ]
    expected, expected_state = feed(inner, params, clipped)
    # Clipped inside and outside of a compiled step: rounding only.
    assert_same(trained, expected, rtol=1e-6, atol=1e-6)
    assert_same(state[1][1].radii, expected_state[1].radii, rtol=1e-4)


def test_a_wrapper_trains_on_what_it_receives_even_where_grad_is_given():
    params = pretrained()
    grads = gradients(4, params)
    # Clipping so hard that the direction of the gradient is another.
    tx = optax.chain(optax.clip(0.2), with_ftp(optax.adamw(1e-2)))
    given = feed(tx, params, grads, grad=True)
    assert_same(given, feed(tx, params, grads))
    link = optax.chain(optax.clip(0.2), optax.adamw(1e-2), ftp())
    assert differ(given[0], feed(link, params, grads, grad=True)[0], by=1e-4)


def test_lookahead_runs_ftp_as_its_fast_optimizer():
    params = pretrained()
    grads = gradients(7, params)
    inner = with_ftp(optax.adamw(1e-2))
    tx = optax.lookahead(inner, sync_period=3, slow_step_size=0.5)
    both, state = feed(tx, optax.LookaheadParams.init_synced(params), grads)

    slow, (fast, inner_state) = params, feed(inner, params, [])
    for i, g in enumerate(grads, start=1):
        fast, inner_state = feed(inner, fast, [g], inner_state)
        if i % 3 == 0:
            slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
            fast = slow
    assert_same(both.fast, fast, rtol=1e-6, atol=1e-6)
    assert_same(both.slow, slow, rtol=1e-6, atol=1e-6)
    assert_same(state.fast_state[1], inner_state[1], rtol=1e-5, atol=1e-6)
    assert_within_radii(both.fast, params, ftp_optax.radii(state, params))
