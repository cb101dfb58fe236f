"""What every relative of FTP owes: its choice of leaves, dtypes, optax's wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import family
import layouts
from family import each
from ftp_optax import AnchorState, DiGraPState, LeafAxes

STEPS = 6


def run(tx, params, steps=STEPS):
    return layouts.run(tx, params, family.gradients(params, steps))


# The choice of leaves


@each
def test_an_excluded_leaf_is_left_alone_bit_for_bit(name):
    pretrained = family.pretrained()
    params = family.moved(pretrained)
    u, extra = family.outward(name, params, pretrained)
    u["head"]["kernel"] = u["head"]["kernel"].at[0].set(-0.0)
    tx = family.link(name, exclude="^head/")
    state = tx.init(pretrained)
    assert isinstance(state.anchor["head"]["kernel"], optax.MaskedNode)
    updates, _ = jax.jit(tx.update)(u, state, params, **extra)
    layouts.assert_same(updates["head"], u["head"])
    tx = family.link(name)
    state = tx.init(pretrained)
    everywhere, _ = jax.jit(tx.update)(u, state, params, **extra)
    layouts.assert_same(updates["body"], everywhere["body"])
    assert np.any(everywhere["head"]["kernel"] != u["head"]["kernel"])


@each
def test_a_mask_chooses_as_exclude_does(name):
    pretrained = family.pretrained()
    params = family.moved(pretrained)
    excluding = family.link(name, exclude="^head/")
    expected = family.one_update(name, excluding, params, pretrained)
    for mask in (
        {"body": True, "head": False},
        lambda tree: jax.tree.map(lambda w: w.shape[-1] == 4, tree),
    ):
        tx = family.link(name, mask=mask)
        found = family.one_update(name, tx, params, pretrained)
        layouts.assert_same(found, expected)


@each
def test_an_anchor_can_be_a_number(name):
    params = family.moved(family.pretrained())
    zeros = jax.tree.map(jnp.zeros_like, params)
    for anchor in (0.0, 0):
        tx = family.link(name, anchor=anchor)
        expected = family.one_update(name, family.link(name), params, zeros)
        found = family.one_update(name, tx, params, zeros, start=params)
        layouts.assert_same(found, expected)


@pytest.mark.parametrize("name", [n for n in family.FAMILY if "l2_sp" not in n])
def test_a_stack_of_layers_is_treated_as_the_layers_are_one_by_one(name):
    # The columns with the largest displacement differ between the layers.
    pretrained = jnp.zeros((2, 3, 4))
    params = jnp.ones((2, 3, 4)).at[0, :, 0].set(2.0).at[1, :, 2].set(3.0)
    params += 0.1 * jax.random.normal(jax.random.key(0), params.shape)
    updates_with = lambda axes, w0, w: family.one_update(
        name, family.link(name, axes=axes), w, w0
    )
    together = updates_with(LeafAxes(rows=2, layers=0), pretrained, params)
    u, extra = family.outward(name, params, pretrained)
    tx = family.link(name, axes=LeafAxes(rows=1))
    extra = {key: list(tree) for key, tree in extra.items()}
    state = tx.init(list(pretrained))
    apart, _ = jax.jit(tx.update)(list(u), state, list(params), **extra)
    np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-6, atol=1e-6)
    as_one = updates_with(LeafAxes(rows=2), pretrained, params)
    assert np.max(np.abs(as_one - together)) > 1e-4


@each
def test_none_and_empty_trees_stay_as_they_are(name):
    tx = family.optimizer(name)
    params = {"a": jnp.ones((2, 3)), "b": None, "c": [None, jnp.ones(4)]}
    (*_, last), _ = run(tx, params, 3)
    assert last["b"] is None
    assert last["c"][0] is None
    without = {"a": params["a"], "c": [params["c"][1]]}
    (*_, expected), _ = run(tx, without, 3)
    layouts.assert_same(last["a"], expected["a"])
    layouts.assert_same(last["c"][1], expected["c"][0])
    for empty in ({}, (), {"a": None, "b": []}):
        seen, _ = layouts.run(tx, empty, [empty] * 2)
        assert seen == [empty] * 2


@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_updates_keep_the_dtype_and_are_computed_in_float32_or_wider(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        pretrained = family.pretrained(dtype)
        params = family.moved(pretrained)
        tx = family.link(name)
        state = tx.init(pretrained)
        assert {x.dtype for x in jax.tree.leaves(state.anchor)} == {jnp.dtype(dtype)}
        u, extra = family.outward(name, params, pretrained)
        found, _ = jax.jit(tx.update)(u, state, params, **extra)
        assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
        wide = "float64" if dtype == "float64" else "float32"
        to_wide = lambda tree: jax.tree.map(lambda x: x.astype(wide), tree)
        start = tx.init(to_wide(pretrained))
        given = to_wide((u, params, extra))
        expected, _ = jax.jit(tx.update)(given[0], start, given[1], **given[2])
        # One rounding at the end; what cancelled before it was float32.
        eps = float(jnp.finfo(dtype).eps)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(
                np.float64(a), np.float64(b), rtol=0.51 * eps, atol=1e-6
            )


# Wrappers


@each
def test_masked_and_partition_give_it_a_part_of_the_params(name):
    params = family.pretrained()
    tx = family.optimizer(name)
    parts = {"held": tx, "plain": family.SGD}
    together = optax.partition(parts, {"body": "held", "head": "plain"})
    (*_, found), _ = run(together, params)
    (*_, expected), _ = run(family.optimizer(name, exclude="^head/"), params)
    layouts.assert_close(found, expected)
    masked = optax.masked(tx, {"body": True, "head": False})
    (*_, found), _ = run(masked, params)
    layouts.assert_close(found["body"], expected["body"])


@each
def test_multi_steps_equals_steps_on_the_mean_gradient(name):
    params = family.pretrained()
    tx = family.optimizer(name)
    grads = family.gradients(params, 2 * STEPS)
    means = [
        jax.tree.map(lambda a, b: (a + b) / 2, *grads[i : i + 2])
        for i in range(0, len(grads), 2)
    ]
    expected, _ = layouts.run(tx, params, means)
    every_second = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    found, _ = layouts.run(every_second, params, grads)
    layouts.assert_close(found[1::2], expected, rtol=1e-5, atol=1e-5)


@each
def test_injected_hyper_parameters_change_nothing_by_themselves(name):
    params = family.pretrained()
    tx = family.build(name, wrap=optax.inject_hyperparams, exclude="^head/")
    (*_, found), state = run(tx, params)
    (*_, expected), _ = run(family.optimizer(name, exclude="^head/"), params)
    layouts.assert_close(found, expected)
    assert optax.tree.get(state, "hyperparams")


@each
def test_apply_if_finite_passes_over_a_nan(name):
    params = family.pretrained()
    tx = optax.apply_if_finite(family.optimizer(name), max_consecutive_errors=3)
    grads = family.gradients(params, 4)
    broken = jax.tree.map(lambda g: g.at[..., 0].set(jnp.nan), grads[2])
    seen, state = layouts.run(tx, params, [*grads[:2], broken, *grads[2:]])
    layouts.assert_same(seen[2], seen[1])
    assert int(state.total_notfinite) == 1
    expected, _ = layouts.run(tx, params, grads)
    layouts.assert_same(seen[-1], expected[-1])


@each
def test_map_params_maps_the_anchor_and_spares_the_rest(name):
    params = family.pretrained()
    specs = {
        "body": {"bias": "body/bias", "kernel": "body/kernel"},
        "head": {"kernel": "head/kernel"},
    }
    tx = family.link(name)
    mapped = optax.tree.map_params(
        tx,
        lambda _, spec: spec,
        tx.init(params),
        specs,
        transform_non_params=lambda _: "not of the params",
    )
    assert isinstance(mapped, AnchorState | DiGraPState)
    for field, value in mapped._asdict().items():
        if field in ("anchor", "projection"):
            assert value == specs
        else:
            assert set(jax.tree.leaves(value)) == {"not of the params"}


@each
def test_an_ensemble_under_vmap_equals_separate_runs(name):
    tx = family.optimizer(name)
    members = [jax.tree.map(lambda w, f=f: f * w, family.pretrained()) for f in (1, 3)]
    stack = lambda *trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    own = [family.gradients(member, STEPS, seed) for seed, member in enumerate(members)]
    many = optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
    steps = [stack(*step) for step in zip(*own, strict=True)]
    (*_, together), _ = layouts.run(many, stack(*members), steps)
    for i, (member, grads) in enumerate(zip(members, own, strict=True)):
        (*_, alone), _ = layouts.run(tx, member, grads)
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        layouts.assert_close(mine, alone, rtol=1e-5, atol=1e-5)
