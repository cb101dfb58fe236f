"""Every method within optax's wrappers, schedules and tree tools."""

import jax
import jax.numpy as jnp
import optax
import pytest

import methods
import trees
from methods import SGD, each_distinct
from trees import assert_close, assert_same, gradients

STEPS = 6


def run(tx, params):
    return trees.feed(tx, params, gradients(params, STEPS))


@each_distinct
def test_masked_and_partition_give_it_a_part_of_the_params(name):
    params = methods.pretrained()
    tx = methods.optimizer(name)
    parts = {"held": tx, "plain": SGD}
    together = optax.partition(parts, {"body": "held", "head": "plain"})
    expected, _ = run(methods.optimizer(name, exclude="^head/"), params)
    assert_close(run(together, params)[0], expected)
    masked = optax.masked(tx, {"body": True, "head": False})
    part, state = run(masked, params)
    assert_close(part["body"], expected["body"])
    (g,) = gradients(params, 1)
    updates, _ = masked.update(g, state, params)
    assert_same(updates["head"], g["head"])


@each_distinct
def test_multi_steps_equals_steps_on_the_mean_gradient(name):
    params, tx = methods.pretrained(), methods.optimizer(name)
    grads = gradients(params, 2 * STEPS)
    means = [
        jax.tree.map(lambda a, b: (a + b) / 2, *grads[i : i + 2])
        for i in range(0, len(grads), 2)
    ]
    expected, _ = trees.run(tx, params, means)
    every_second = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    after, _ = trees.run(every_second, params, grads)
    assert_close(after[1::2], expected, rtol=1e-5, atol=1e-5)
    assert_same(after[:-1:2], [params, *after[1:-1:2]])


SCHEDULE = optax.linear_schedule(0.5, 0.1, 5)
HYPER_PARAMETERS = {
    "ftp": "kappa",
    "l2_sp": "strength",
    "mars_sp": "strength",
    "mars_pgm": "radius",
    "spd": "strength",
}


@pytest.mark.parametrize("name", HYPER_PARAMETERS)
def test_a_hyper_parameter_follows_its_schedule_injected_or_not_or_is_changed(name):
    argument = HYPER_PARAMETERS[name]
    params = methods.pretrained()
    grads = gradients(params, 10, pull=0.3)
    make = lambda value, **wrap: methods.build(name, **{argument: value}, **wrap)
    injected = {"wrap": optax.inject_hyperparams}
    trained, state = trees.run(make(SCHEDULE, **injected), params, grads)
    assert optax.tree.get(state, "hyperparams")
    expected, _ = trees.run(make(SCHEDULE), params, grads)
    assert_close(trained, expected, rtol=1e-5, atol=1e-6)

    by_hand = make(0.1, **injected)
    before, state = trees.run(by_hand, params, grads[:5])
    state = optax.tree.set(state, **{argument: jnp.asarray(0.5)})
    after, _ = trees.run(by_hand, before[-1], grads[5:], state)
    piecewise = optax.piecewise_constant_schedule(0.1, {5: 5.0})
    expected, _ = trees.run(make(piecewise), params, grads)
    assert_close(before + after, expected, rtol=1e-5, atol=1e-6)
    constant, _ = trees.feed(make(0.1), params, grads)
    assert trees.farthest(constant, expected[-1]) > 1e-3


# Arguments with which a method leaves the optimizer's steps as they are.
IDLE = {
    "l2_sp": {"strength": 0.0},
    "l2_sp, decoupled": {"strength": optax.constant_schedule(0.0)},
    "mars_sp": {"strength": lambda count: 0.0 * count},
    "mars_sp, decoupled": {"strength": 0},
    "spd": {"strength": 0.0},
    "digrap": {"omega_optimizer": optax.set_to_zero(), "initial_omega": 0.0},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", IDLE)
def test_a_method_of_strength_0_is_the_base_optimizer_bit_for_bit(name, dtype):
    params = methods.pretrained(dtype)
    grads = gradients(params, 4)
    # Dead units give zeros of either sign.
    grads[0] = jax.tree.map(lambda g: -jnp.zeros_like(g), grads[0])
    tx = methods.build(name, **IDLE[name])
    # Compiled as another program, the base optimizer itself may round otherwise.
    after, _ = trees.run(tx, params, grads, jit=False)
    assert_same(after, trees.run(SGD, params, grads, jit=False)[0])


@pytest.mark.parametrize("name", [name for name in IDLE if "_sp" in name])
def test_a_penalty_of_strength_0_passes_zeros_of_either_sign(name):
    params = {"w": jnp.asarray([1.0, -1.0, 1.0, -1.0]), "head": jnp.ones(2)}
    zeros = {"w": jnp.asarray([0.0, 0.0, -0.0, -0.0]), "head": jnp.asarray([0.0, -0.0])}
    tx = methods.link(name, anchor=0.0, exclude="head", **IDLE[name])
    assert_same(tx.update(zeros, tx.init(params), params)[0], zeros)


@each_distinct
def test_apply_if_finite_passes_over_a_nan(name):
    params, grads = methods.pretrained(), gradients(methods.pretrained(), 4)
    tx = optax.apply_if_finite(methods.optimizer(name), max_consecutive_errors=3)
    broken = jax.tree.map(lambda g: g.at[..., 0].set(jnp.nan), grads[2])
    before, before_state = trees.feed(tx, params, grads[:2])
    after, state = trees.feed(tx, before, [broken], before_state)
    assert_same((after, state.inner_state), (before, before_state.inner_state))
    assert int(state.total_notfinite) == 1
    resumed, _ = trees.feed(tx, after, grads[2:], state)
    assert_same(resumed, trees.feed(tx, params, grads)[0])


OF_PARAMS = ("anchor", "displacement", "projection")


@pytest.mark.parametrize("name", [*methods.DISTINCT, "ftp, anchor 0", "ftp, implicit"])
def test_map_params_maps_what_is_of_the_params_and_spares_the_rest(name):
    params = methods.pretrained()
    specs = {k: {n: f"{k}/{n}" for n in ("bias", "kernel")} for k in params}
    tx = methods.link(name)
    state = optax.tree.map_params(
        tx,
        lambda leaf, spec: leaf if isinstance(leaf, optax.MaskedNode) else spec,
        tx.init(params),
        specs,
        transform_non_params=lambda _: "not of the params",
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    for field, value in state._asdict().items():
        if field == "anchor" and name == "ftp, implicit":
            assert not jax.tree.leaves(value)
        elif field in OF_PARAMS:
            assert value == specs
        else:
            assert set(jax.tree.leaves(value)) == {"not of the params"}


@each_distinct
def test_map_params_treats_excluded_leaves_as_masked_ones(name):
    params, tx = methods.pretrained(), methods.link(name, exclude="head")
    state = tx.init(params)
    # Without further trees it needs no is_leaf.
    doubled = optax.tree.map_params(tx, lambda leaf: 2 * leaf, state)
    assert_same(doubled.anchor, jax.tree.map(lambda w: 2 * w, state.anchor))
    rest = lambda s: [v for f, v in s._asdict().items() if f not in OF_PARAMS]
    assert_same(rest(doubled), rest(state))
    with pytest.raises(ValueError, match="MaskedNode"):
        optax.tree.map_params(tx, lambda v, w: w, state, params)
