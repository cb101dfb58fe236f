"""Bad input: each error names the argument, the leaf and what was expected."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from ftp_optax import ftp, with_ftp
from refusal import refused

PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros((3,))}}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
SGD = optax.sgd(0.1)


@pytest.mark.parametrize("kappa", [-0.1, 1.1, 2, float("nan"), jnp.asarray(1.5)])
def test_kappa_outside_its_range_is_refused(kappa):
    with pytest.raises(
        ValueError, match=r"kappa: expected a number in \[0, 1\] or a sch.*got"
    ):
        ftp(kappa)


@pytest.mark.parametrize("kappa", [0, 0.0, 0.5, 1, True, jnp.asarray(0.3)])
def test_any_number_within_its_range_is_a_kappa(kappa):
    state = with_ftp(SGD, kappa).init(PARAMS)
    assert state[1].radii.shape == (2,)


def test_a_kappa_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"kappa: expected a number"):
        ftp("1.0")  # pyright: ignore
    with pytest.raises(TypeError, match=r"kappa: expected a number"):
        ftp(jnp.ones((2,)))


def test_a_traced_kappa_is_taken_as_it_is():
    @jax.jit
    def radii_at(kappa):
        tx = with_ftp(SGD, kappa)
        return tx.init(PARAMS)[1].radii

    assert radii_at(0.5).shape == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l2"}, r"norm: expected one of \('mars', 'frobenius'\), got 'l2'"),
        ({"hypergradient": "exact"}, r"hypergradient: expected one of .*'active'"),
        ({"displacement_dtype": "half precision"}, r"displacement_dtype: expected"),
        ({"displacement_dtype": "float8_e5m2"}, r"displacement_dtype: .*16 bits or"),
        ({"displacement_dtype": "float16"}, r"displacement_dtype: float16 has too sma"),
        ({"norm": np.ones(2)}, r"norm: expected one of .* got array"),
        ({"initial_radius": -1.0}, r"initial_radius: expected a number >= 0, got -1.0"),
    ],
)
def test_an_unknown_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ftp(**options)
    with pytest.raises(ValueError, match=message):
        with_ftp(SGD, **options)


@pytest.mark.parametrize("value", ["no", 0, np.ones(2), None], ids=repr)
def test_a_mask_of_anything_but_bools_is_refused(value):
    mask = {"a": value, "b": True}
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises((TypeError, ValueError), match=r"mask: .*'a'"):
        ftp(mask=mask).init(params)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (P("model"), r"specs: .*mesh axes \('model',\).* shard_map"),
        (P(P.UNCONSTRAINED), r"specs: .*leaf 'a' has an entry that is neither"),
    ],
    ids=str,
)
def test_specs_that_no_shard_map_was_given_are_refused(spec, message):
    params = {"a": jnp.ones((2, 2))}
    tx = with_ftp(SGD, specs=spec)
    with pytest.raises(ValueError, match=message):
        jax.jit(tx.update)(params, tx.init(params), params)


def test_what_is_no_transformation_is_refused():
    with pytest.raises(TypeError, match=r"radius_optimizer: expected an optax"):
        ftp(radius_optimizer=1e-2)  # pyright: ignore
    with pytest.raises(TypeError, match=r"optimizer: expected an optax.*0.1"):
        with_ftp(0.1)  # pyright: ignore


def test_missing_params_are_named():
    tx = with_ftp(SGD)
    with pytest.raises(ValueError, match=r"params: .*got None"):
        tx.init(None)
    with pytest.raises(ValueError, match=r"params: .*update\(grads, state, params\)"):
        ftp().update(PARAMS, ftp().init(PARAMS))


def test_updates_of_another_tree_are_refused():
    tx = ftp()
    state = tx.init(PARAMS)
    grads = {"dense": {"kernel": jnp.ones((2, 3)), "scale": jnp.zeros((3,))}}
    message = refused(tx, grads, state, PARAMS, grad=GRADS)
    assert message.startswith("updates: ")
    assert "lacks 'dense/bias'" in message
    assert "has 'dense/scale'" in message


def test_updates_of_another_shape_are_refused():
    tx = ftp()
    grads = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((3,))}}
    message = refused(tx, grads, tx.init(PARAMS), PARAMS, grad=GRADS)
    assert "updates: the leaf 'dense/kernel' has shape (3, 2)" in message
    assert "expected (2, 3)" in message


def test_a_gradient_of_another_tree_or_shape_is_refused():
    tx = optax.chain(SGD, ftp())
    state = tx.init(PARAMS)
    message = refused(tx, PARAMS, state, PARAMS, grad=PARAMS["dense"])
    assert message.startswith("grad: ")
    assert "lacks 'dense/bias'" in message
    other = {"dense": {"kernel": jnp.ones((2, 4)), "bias": jnp.zeros((3,))}}
    message = refused(tx, PARAMS, state, PARAMS, grad=other)
    assert "grad: the leaf 'dense/kernel' has shape (2, 4), expected (2, 3)" in message


def test_a_full_gradient_under_a_mask_is_told_how_to_be_masked():
    mask = {"dense": {"kernel": True, "bias": False}}
    tx = optax.chain(SGD, optax.masked(ftp(), mask))
    message = refused(tx, PARAMS, tx.init(PARAMS), PARAMS, grad=PARAMS)
    assert "mask_compatible_extra_args=True" in message


def test_a_state_of_other_params_is_refused():
    tx = ftp()
    others = {
        "dense": {"kernel": jnp.ones((2, 3)), "gain": jnp.zeros((3,))},
    }
    message = refused(tx, PARAMS, tx.init(others), PARAMS, grad=GRADS)
    assert "state: its anchor was made for other params" in message
    assert "'dense/bias'" in message
    assert "init" in message


def test_a_state_of_params_of_other_shapes_is_refused():
    tx = ftp()
    others = {"dense": {"kernel": jnp.ones((5, 3)), "bias": jnp.zeros((3,))}}
    message = refused(tx, PARAMS, tx.init(others), PARAMS, grad=GRADS)
    assert "'dense/kernel' has shape (5, 3), expected (2, 3)" in message


def test_a_state_of_other_axes_or_of_another_selection_is_refused():
    tx = ftp()
    stacked = ftp(axes=lambda params: jax.tree.map(_stack, params))
    message = refused(tx, PARAMS, stacked.init(PARAMS), PARAMS, grad=GRADS)
    assert "radii of shape (3,), expected (2,)" in message
    selective = ftp(exclude="bias")
    message = refused(tx, PARAMS, selective.init(PARAMS), PARAMS, grad=GRADS)
    assert "lacks 'dense/bias'" in message


def _stack(leaf):
    from ftp_optax import LeafAxes

    return LeafAxes(layers=0) if leaf.ndim > 1 else LeafAxes()


def test_what_is_no_state_of_ours_is_refused():
    with pytest.raises(TypeError, match=r"state: expected the FTPState"):
        ftp().update(PARAMS, optax.EmptyState(), PARAMS)
