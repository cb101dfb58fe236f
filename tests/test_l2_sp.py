"""L2-SP: the quadratic penalty toward the pre-trained weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import layouts
import relatives_reference as reference
import trees
from ftp_optax import l2_sp

SCHEDULE = optax.linear_schedule(0.5, 0.1, 10)


@pytest.mark.parametrize(
    ("strength", "decoupled", "optimizer"),
    [
        (0.3, False, "adamw"),
        (SCHEDULE, False, "sgd"),
        (0.3, True, "sgd"),
        (SCHEDULE, True, "adamw"),
    ],
)
def test_every_step_agrees_with_the_reference(strength, decoupled, optimizer):
    base, make_base = layouts.OPTIMIZERS[optimizer]
    links = (l2_sp(strength, decoupled=decoupled), base)
    layouts.assert_agree(
        optax.chain(*(links[::-1] if decoupled else links)),
        lambda key, w: reference.L2SP(w, make_base(), layouts.at(strength), decoupled),
        layouts.draw(0),
        trees.gradients(layouts.draw(0), 15),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_coupled_form_is_the_gradient_of_the_penalty():
    pretrained, params, grads = layouts.draw(0), layouts.draw(1), layouts.draw(2)

    def penalty(p):
        squares = jax.tree.map(lambda w, w0: jnp.sum((w - w0) ** 2), p, pretrained)
        return 0.25 * sum(jax.tree.leaves(squares))

    tx = l2_sp(0.5)
    updates, _ = tx.update(grads, tx.init(pretrained), params)
    expected = jax.tree.map(jnp.add, grads, jax.jit(jax.grad(penalty))(params))
    for name, u in trees.flat(updates).items():
        np.testing.assert_allclose(u, trees.flat(expected)[name], rtol=1e-6)


def test_decoupled_strength_1_returns_to_the_anchor_plus_the_step():
    pretrained, params, step = layouts.draw(0), layouts.draw(1), layouts.draw(2)
    tx = l2_sp(1.0, decoupled=True)
    updates, _ = tx.update(step, tx.init(pretrained), params)
    moved = trees.flat(optax.apply_updates(params, updates))
    expected = trees.flat(jax.tree.map(jnp.add, pretrained, step))
    for name, w in moved.items():
        np.testing.assert_allclose(w, expected[name], rtol=1e-6, atol=1e-6)


def test_new_layers_decay_toward_0_by_a_transformation_of_optax_beside_it():
    pretrained, params, grads = layouts.draw(0), layouts.draw(1), layouts.draw(2)
    new = {name: name == "dense" for name in params}
    tx = optax.chain(
        l2_sp(0.1, exclude="^dense/"), optax.add_decayed_weights(0.5, mask=new)
    )
    updates, _ = tx.update(grads, tx.init(pretrained), params)
    for name, u in trees.flat(updates).items():
        w, w0, g = (trees.flat(t)[name] for t in (params, pretrained, grads))
        pull = 0.5 * w if name.startswith("dense/") else 0.1 * (w - w0)
        np.testing.assert_allclose(u, g + pull, rtol=1e-6, atol=1e-7)
