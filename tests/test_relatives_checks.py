"""Bad input to the relatives: each error names the argument, the leaf, the remedy."""

import jax
import jax.numpy as jnp
import optax
import pytest

import family
from family import each
from ftp_optax import (
    AnchorState,
    DiGraPState,
    digrap,
    ftp,
    l2_sp,
    mars_pgm,
    mars_sp,
    spd,
    tpgm,
    with_spd,
)
from refusal import refused

PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros((3,))}}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
SGD = optax.sgd(0.1)

STRENGTHS = {
    "l2_sp": l2_sp,
    "mars_sp": mars_sp,
    "spd": spd,
    "with_spd": lambda strength: with_spd(SGD, strength),
}


@pytest.mark.parametrize("function", STRENGTHS.values(), ids=STRENGTHS)
def test_a_strength_that_is_no_number_from_0_on_is_refused(function):
    for strength in (-0.1, float("nan"), jnp.asarray(-1.0)):
        with pytest.raises(ValueError, match=r"strength: expected a number >= 0 or"):
            function(strength)
    for strength in ("1.0", None, jnp.ones(2), {"dense": 0.1}):
        with pytest.raises(TypeError, match=r"strength: expected a number >= 0 or"):
            function(strength)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mars_sp(0.1, norm="l1"), r"norm: expected one of \('mars', 'frob"),
        (lambda: mars_pgm(0.1, norm="l2"), r"norm: expected one of .*got 'l2'"),
        (lambda: spd(0.1, norm="l2"), r"norm: expected one of .*got 'l2'"),
        (lambda: with_spd(SGD, 0.1, norm="l2"), r"norm: expected one of"),
    ],
)
def test_an_unknown_choice_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match=r"optimizer: expected an optax"):
        with_spd(0.1, 1.0)


@each
def test_options_that_cannot_be_right_are_refused_at_once(name):
    with pytest.raises(ValueError, match=r"exclude: '\(' is not a regular expression"):
        family.link(name, exclude="(")
    with pytest.raises(TypeError, match=r"exclude: expected a regular expression"):
        family.link(name, exclude=[1])


INITS = {
    **{
        name: lambda p, n=name, **o: family.link(n, **o).init(p)
        for name in family.FAMILY
    },
    "tpgm": lambda p, **options: tpgm(**options).init(p),
}


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_init_refuses_a_choice_of_leaves_or_an_anchor_that_does_not_fit(init):
    with pytest.raises(ValueError, match=r"params: .*got None"):
        init(None)
    with pytest.raises(ValueError, match=r"exclude: .*'head'.*no leaf.*'dense/bias'"):
        init(PARAMS, exclude="head")
    for options in ({"exclude": "."}, {"mask": {"dense": False}}):
        with pytest.raises(ValueError, match=r"no leaf to constrain.*'dense/kernel'"):
            init(PARAMS, **options)
    with pytest.raises(ValueError, match=r"mask: .*no entry for the leaf 'dense/kern"):
        init(PARAMS, mask={"dense": {"bias": True}})
    for anchor in ("zero", PARAMS):
        with pytest.raises(TypeError, match=r"anchor: expected None or a number;"):
            init(PARAMS, anchor=anchor)
    with pytest.raises(TypeError, match=r"params: the leaf 'count' has dtype int32"):
        init({**PARAMS, "count": jnp.arange(3)})


@each
def test_updates_that_do_not_fit_the_params_are_refused(name):
    tx = family.link(name)
    state = tx.init(PARAMS)
    extra = {"grad": GRADS} if name == "spd" else {}
    with pytest.raises(ValueError, match=r"params: .*got None"):
        tx.update(PARAMS, state)
    other = {"dense": {"kernel": jnp.ones((2, 3)), "scale": jnp.zeros((3,))}}
    message = refused(tx, other, state, PARAMS, **extra)
    assert message.startswith("updates: ")
    assert "lacks 'dense/bias'" in message
    assert "has 'dense/scale'" in message
    turned = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((3,))}}
    message = refused(tx, turned, state, PARAMS, **extra)
    assert (
        "updates: the leaf 'dense/kernel' has shape (3, 2), expected (2, 3)" in message
    )


def test_a_gradient_that_does_not_fit_the_params_is_refused():
    tx = spd(1.0)
    state = tx.init(PARAMS)
    message = refused(tx, PARAMS, state, PARAMS, grad=PARAMS["dense"])
    assert message.startswith("grad: ")
    turned = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((3,))}}
    message = refused(tx, PARAMS, state, PARAMS, grad=turned)
    assert "grad: the leaf 'dense/kernel' has shape (3, 2), expected (2, 3)" in message


@each
def test_a_state_of_other_params_or_of_another_method_is_refused(name):
    tx = family.link(name)
    extra = {"grad": GRADS} if name == "spd" else {}
    other = {"dense": {"kernel": jnp.ones((2, 3)), "gain": jnp.zeros((3,))}}
    message = refused(tx, PARAMS, tx.init(other), PARAMS, **extra)
    assert "state: its anchor was made for other params" in message
    assert "'dense/bias'" in message
    wider = {"dense": {"kernel": jnp.ones((5, 3)), "bias": jnp.zeros((3,))}}
    message = refused(tx, PARAMS, tx.init(wider), PARAMS, **extra)
    assert "'dense/kernel' has shape (5, 3), expected (2, 3)" in message
    message = refused(
        tx, PARAMS, family.link(name, exclude="bias").init(PARAMS), PARAMS, **extra
    )
    assert "lacks 'dense/bias'" in message
    expected = DiGraPState if name == "digrap" else AnchorState
    for strange in (optax.EmptyState(), ftp().init(PARAMS), (tx.init(PARAMS),)):
        with pytest.raises(
            TypeError, match=rf"state: expected the {expected.__name__} that init"
        ):
            tx.update(PARAMS, strange, PARAMS, **extra)


def test_a_state_of_digrap_with_other_layers_is_refused():
    tx = digrap()
    state = tx.init(PARAMS)._replace(omega=jnp.zeros(3))
    message = refused(tx, PARAMS, state, PARAMS)
    assert "state: it has omega of shape (3,), expected (2,)" in message


def test_the_full_gradient_of_masked_params_is_told_how_to_be_masked():
    mask = {"dense": {"kernel": True, "bias": False}}
    tx = optax.chain(SGD, optax.masked(spd(1.0), mask))
    message = refused(tx, PARAMS, tx.init(PARAMS), PARAMS, grad=PARAMS)
    assert "mask_compatible_extra_args=True" in message
