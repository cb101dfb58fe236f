"""L2-SP: the quadratic penalty toward the pre-trained weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import layouts
import numpy_reference
import relatives_reference as reference
import trajectory
from ftp_optax import l2_sp

STEPS = 15
SCHEDULE = optax.linear_schedule(0.5, 0.1, 10)
STRENGTHS = {"number": 0.3, "schedule": SCHEDULE}


def as_function(strength):
    return (lambda t: float(strength(t))) if callable(strength) else lambda _: strength


def chained(penalty, optimizer, decoupled):
    return optax.chain(*((optimizer, penalty) if decoupled else (penalty, optimizer)))


OPTIMIZERS = {
    "sgd": (optax.sgd(0.1, 0.9), lambda: numpy_reference.SGD(0.1, 0.9)),
    "adamw": (
        optax.adamw(0.02, weight_decay=0.1),
        lambda: numpy_reference.AdamW(0.02, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize(
    ("strength", "decoupled", "optimizer"),
    [
        ("number", False, "adamw"),
        ("schedule", False, "sgd"),
        ("number", True, "sgd"),
        ("schedule", True, "adamw"),
    ],
)
def test_every_step_agrees_with_the_reference(strength, decoupled, optimizer):
    strength = STRENGTHS[strength]
    base, make_base = OPTIMIZERS[optimizer]
    layouts.assert_agree(
        chained(l2_sp(strength, decoupled=decoupled), base, decoupled),
        lambda key, w: reference.L2SP(w, make_base(), as_function(strength), decoupled),
        layouts.draw(0),
        layouts.gradients(STEPS),
        rtol=1e-5,
        atol=1e-5,
    )


def test_an_injected_strength_follows_its_schedule_and_can_be_changed():
    params, grads = layouts.draw(0), layouts.gradients(STEPS)
    by_schedule = optax.inject_hyperparams(l2_sp)(strength=SCHEDULE)
    sgd = optax.sgd(0.1)
    expected, _ = layouts.run(optax.chain(l2_sp(SCHEDULE), sgd), params, grads)
    found, _ = layouts.run(optax.chain(by_schedule, sgd), params, grads)
    layouts.assert_close(found, expected)

    by_hand = optax.chain(optax.inject_hyperparams(l2_sp)(strength=0.2), sgd)
    seen, state = layouts.run(by_hand, params, grads[:5])
    state[0].hyperparams["strength"] = jnp.asarray(0.6)
    changed, _ = layouts.run(by_hand, seen[-1], grads[5:], state)
    piecewise = optax.piecewise_constant_schedule(0.2, {5: 3.0})
    expected, _ = layouts.run(optax.chain(l2_sp(piecewise), sgd), params, grads)
    layouts.assert_close(seen + changed, expected)


@pytest.mark.parametrize(
    ("decoupled", "dtype"), [(False, "bfloat16"), (True, "float32")]
)
def test_strength_0_is_the_base_optimizer_bit_for_bit(decoupled, dtype):
    shapes = {"kernel": (4, 3), "bias": (3,)}
    params = trajectory.random_tree(shapes, 0)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    grads = trajectory.gradients(params, 6)
    # Dead units give zeros of either sign.
    grads[0] = jax.tree.map(lambda g: -jnp.zeros_like(g), grads[0])
    for base in (optax.sgd(0.1, 0.9), optax.adamw(0.02)):
        schedule = optax.constant_schedule(0.0)
        tx = chained(l2_sp(schedule, decoupled=decoupled), base, decoupled)
        # Compiled as another program, the base optimizer itself may round otherwise.
        with jax.disable_jit():
            found = layouts.run(tx, params, grads)[0]
            expected = layouts.run(base, params, grads)[0]
        layouts.assert_same(found, expected)


@pytest.mark.parametrize("strength", [0.0, 0, lambda count: 0.0 * count])
def test_strength_0_passes_zeros_of_either_sign(strength):
    params = {"w": jnp.asarray([1.0, -1.0, 1.0, -1.0]), "head": jnp.ones(2)}
    zeros = {"w": jnp.asarray([0.0, 0.0, -0.0, -0.0]), "head": jnp.asarray([0.0, -0.0])}
    tx = l2_sp(strength, anchor=0.0, exclude="head")
    layouts.assert_same(tx.update(zeros, tx.init(params), params)[0], zeros)


def test_the_coupled_form_is_the_gradient_of_the_penalty():
    pretrained, params, grads = layouts.draw(0), layouts.draw(1), layouts.draw(2)

    def penalty(p):
        squares = jax.tree.map(lambda w, w0: jnp.sum((w - w0) ** 2), p, pretrained)
        return 0.25 * sum(jax.tree.leaves(squares))

    tx = l2_sp(0.5)
    updates, _ = tx.update(grads, tx.init(pretrained), params)
    expected = jax.tree.map(jnp.add, grads, jax.jit(jax.grad(penalty))(params))
    for name, u in layouts.flat(updates).items():
        np.testing.assert_allclose(u, layouts.flat(expected)[name], rtol=1e-6)


def test_decoupled_strength_1_returns_to_the_anchor_plus_the_step():
    pretrained, params, step = layouts.draw(0), layouts.draw(1), layouts.draw(2)
    tx = l2_sp(1.0, decoupled=True)
    updates, _ = tx.update(step, tx.init(pretrained), params)
    moved = layouts.flat(optax.apply_updates(params, updates))
    expected = layouts.flat(jax.tree.map(jnp.add, pretrained, step))
    for name, w in moved.items():
        np.testing.assert_allclose(w, expected[name], rtol=1e-6, atol=1e-6)


def test_new_layers_decay_toward_0_by_a_transformation_of_optax_beside_it():
    pretrained, params, grads = layouts.draw(0), layouts.draw(1), layouts.draw(2)
    new = {name: name == "dense" for name in params}
    tx = optax.chain(
        l2_sp(0.1, exclude="^dense/"), optax.add_decayed_weights(0.5, mask=new)
    )
    updates, _ = tx.update(grads, tx.init(pretrained), params)
    for name, u in layouts.flat(updates).items():
        w, w0, g = (layouts.flat(t)[name] for t in (params, pretrained, grads))
        pull = 0.5 * w if name.startswith("dense/") else 0.1 * (w - w0)
        np.testing.assert_allclose(u, g + pull, rtol=1e-6, atol=1e-7)
