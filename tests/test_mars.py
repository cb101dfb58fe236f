"""L2-SP, MARS-SP and MARS-PGM: norms as penalties, and projection onto given radii."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
import relatives_reference as reference
import trees
from ftp_optax import LeafAxes, l2_sp, mars_pgm, mars_sp, with_ftp

SCHEDULE = optax.linear_schedule(0.5, 0.1, 10)
SGD, make_sgd = layouts.OPTIMIZERS["sgd"]
each_norm = pytest.mark.parametrize("norm", ["mars", "frobenius"])


def assert_agree(tx, make_reference):
    params = layouts.draw(0)
    grads = trees.gradients(params, 15)
    layouts.assert_agree(tx, make_reference, params, grads, rtol=1e-5, atol=1e-5)


# ---- The penalties -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("strength", "decoupled", "optimizer"),
    [
        (0.3, False, "adamw"),
        (SCHEDULE, False, "sgd"),
        (0.3, True, "sgd"),
        (SCHEDULE, True, "adamw"),
    ],
)
def test_every_step_of_l2_sp_agrees_with_the_reference(strength, decoupled, optimizer):
    base, make_base = layouts.OPTIMIZERS[optimizer]
    links = (l2_sp(strength, decoupled=decoupled), base)
    assert_agree(
        optax.chain(*(links[::-1] if decoupled else links)),
        lambda key, w: reference.L2SP(w, make_base(), layouts.at(strength), decoupled),
    )


@each_norm
@pytest.mark.parametrize(
    ("decoupled", "strength"),
    [(False, SCHEDULE), (True, 0.3)],
    ids=["coupled", "decoupled"],
)
def test_every_step_of_mars_sp_agrees_with_the_reference(strength, decoupled, norm):
    penalty = mars_sp(strength, decoupled=decoupled, norm=norm, axes=layouts.AXES)
    assert_agree(
        optax.chain(*((SGD, penalty) if decoupled else (penalty, SGD))),
        lambda key, w: reference.MARSSP(
            w, make_sgd(), layouts.at(strength), decoupled, norm=norm
        ),
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=2, max_size=2
    )
)
def test_rows_that_tie_share_the_subgradient(rows):
    # Small integers tie often. A subgradient s of a norm has <s, D> = |D|, and no
    # dual norm above 1.
    d = jnp.asarray(rows, jnp.float32)
    tx = mars_sp(1.0, axes=LeafAxes(rows=0), anchor=0.0)
    s = np.asarray(tx.update(jnp.zeros_like(d), tx.init(d), d)[0])
    assert np.sum(s * np.asarray(d)) == pytest.approx(
        reference.mars_norm(np.asarray(d))
    )
    assert np.sum(np.max(np.abs(s), axis=1)) <= 1.0
    expected = reference.MARSSP(np.zeros((2, 3)), make_sgd(), lambda t: 1.0)
    np.testing.assert_allclose(s, expected.gradient(np.asarray(d)))


# ---- The projection ----------------------------------------------------------------


RADII = {
    "number": 0.4,
    "schedule": SCHEDULE,
    "prefix": {
        "dense": {"kernel": 0.3, "bias": 0.7},
        "query": jnp.asarray(0.6),
        "out": 0.2,
        "embed": jnp.inf,
        "blocks": {"kernel": jnp.asarray([0.1, 0.8]), "bias": np.asarray([0.6, 0.2])},
        "scale": 0.05,
    },
}
RADII["schedule of a prefix"] = lambda t: jax.tree.map(
    lambda r: r * SCHEDULE(t), RADII["prefix"]
)


def radius_of(radius, name, layer):
    """The radius of one tensor as a function of the step, read by hand."""

    def at(t):
        tree = radius(t) if callable(radius) else radius
        for key in name.split("/"):
            tree = tree[key] if isinstance(tree, dict) else tree
        values = np.asarray(tree, np.float64)
        return float(values[layer] if values.ndim else values)

    return at


@pytest.mark.parametrize(
    ("radius", "norm"),
    [
        ("number", "mars"),
        ("schedule", "frobenius"),
        ("prefix", "mars"),
        ("prefix", "frobenius"),
        ("schedule of a prefix", "mars"),
    ],
)
def test_every_step_of_mars_pgm_agrees_with_the_reference(radius, norm):
    radius = RADII[radius]
    assert_agree(
        optax.chain(SGD, mars_pgm(radius, norm=norm, axes=layouts.AXES)),
        lambda key, w: reference.MARSPGM(w, make_sgd(), radius_of(radius, *key), norm),
    )


def test_the_radius_holds_where_the_updates_are_less_precise_than_the_params():
    rng = np.random.default_rng(0)
    pretrained = {"kernel": jnp.asarray(rng.normal(size=(64, 8)), jnp.float32)}
    tx = mars_pgm(0.5)
    params, state = pretrained, tx.init(pretrained)
    for _ in range(5):
        step = {"kernel": jnp.asarray(0.1 * rng.normal(size=(64, 8)), jnp.bfloat16)}
        updates, state = tx.update(step, state, params)
        params = optax.apply_updates(params, updates)
        rows = np.abs(np.float64(params["kernel"]) - np.float64(pretrained["kernel"]))
        assert np.all(rows.sum(axis=0) <= 0.5 + 64 * 3e-7)


@each_norm
def test_radius_0_holds_at_the_anchor_and_an_infinite_one_is_the_plain_optimizer(norm):
    params = layouts.draw(0)
    grads = trees.gradients(params, 5)
    make = lambda r: optax.chain(SGD, mars_pgm(r, norm=norm, axes=layouts.AXES))
    trees.assert_same(trees.run(make(0.0), params, grads)[0], [params] * 5)
    free, _ = trees.run(make(jnp.inf), params, grads)
    trees.assert_close(free, trees.run(SGD, params, grads)[0])
    # At the anchor, without a step, nothing moves.
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = mars_pgm(0.3, norm=norm, axes=layouts.AXES)
    trees.assert_same(jax.jit(tx.update)(zeros, tx.init(params), params)[0], zeros)


@each_norm
def test_ftp_with_radii_that_do_not_train_is_mars_pgm(norm):
    # One projection, several ways to choose the radius. A steady pull outward: FTP
    # clips a radius to the largest row, and one that nothing trains stays there.
    params = layouts.draw(0)
    pull = jax.tree.map(lambda g: g + jnp.sign(g), layouts.draw(1))
    grads = [jax.tree.map(lambda g, t=t: g * (1 + 0.1 * t), pull) for t in range(4)]
    radius = 0.01
    options = {"norm": norm, "axes": layouts.AXES}
    fixed = {"radius_optimizer": optax.set_to_zero(), "initial_radius": radius}
    tx = optax.chain(SGD, mars_pgm(radius, **options))
    # Operation by operation: two compiled programs may round the same sum differently.
    held = with_ftp(SGD, **fixed, **options)
    after, _ = trees.run(held, params, grads, jit=False)
    trees.assert_same(after, trees.run(tx, params, grads, jit=False)[0])
    for key, w in layouts.matrices(after[-1]).items():
        c = w - layouts.matrices(params)[key]
        assert reference.NORMS[norm](c) == pytest.approx(radius, rel=1e-3), key
