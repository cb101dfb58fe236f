"""MARS-SP and MARS-PGM: the norm as a penalty, and projection onto given radii."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
import numpy_reference
import relatives_reference as reference
import trajectory
from ftp_optax import LeafAxes, mars_pgm, mars_sp, with_ftp

STEPS = 15
SCHEDULE = optax.linear_schedule(0.5, 0.1, 10)
STRENGTHS = {"number": 0.3, "schedule": SCHEDULE}
NORMS = ("mars", "frobenius")
SGD = optax.sgd(0.1, 0.9)


def make_sgd():
    return numpy_reference.SGD(0.1, 0.9)


def as_function(value):
    return (lambda t: float(value(t))) if callable(value) else lambda _: value


# The penalty


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("decoupled", "strength"),
    [(False, "schedule"), (True, "number")],
    ids=["coupled", "decoupled"],
)
def test_every_step_of_mars_sp_agrees_with_the_reference(strength, decoupled, norm):
    strength = STRENGTHS[strength]
    penalty = mars_sp(strength, decoupled=decoupled, norm=norm, axes=layouts.AXES)
    links = (SGD, penalty) if decoupled else (penalty, SGD)
    layouts.assert_agree(
        optax.chain(*links),
        lambda key, w: reference.MARSSP(
            w, make_sgd(), as_function(strength), decoupled, norm=norm
        ),
        layouts.draw(0),
        layouts.gradients(STEPS),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_the_subgradient_is_the_gradient_of_the_norm_away_from_ties(norm):
    pretrained, params, grads = layouts.draw(0), layouts.draw(1), layouts.draw(2)

    def size(name, d):
        _, order, layers, rows = layouts.LAYOUTS[name]
        d = jnp.transpose(d, order)
        axes = tuple(range(layers, d.ndim))
        if norm == "frobenius":
            return jnp.sum(jnp.sqrt(jnp.sum(d**2, axis=axes)))
        row_sums = jnp.sum(jnp.abs(d), axis=axes[rows:])
        return jnp.sum(jnp.max(row_sums, axis=axes[:rows]))

    def penalty(p):
        d = layouts.by_name(jax.tree.map(jnp.subtract, p, pretrained))
        return 0.7 * sum(size(name, leaf) for name, leaf in d.items())

    tx = mars_sp(0.7, norm=norm, axes=layouts.AXES)
    updates, _ = jax.jit(tx.update)(grads, tx.init(pretrained), params)
    gradient = jax.jit(jax.grad(penalty))(params)
    expected = jax.tree.map(jnp.add, grads, gradient)
    layouts.assert_close(updates, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_the_subgradient_at_the_anchor_is_0(norm):
    params, grads = layouts.draw(0), layouts.draw(1)
    tx = mars_sp(0.7, norm=norm, axes=layouts.AXES)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    layouts.assert_same(updates, grads)


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


@pytest.mark.parametrize(("decoupled", "norm"), [(False, "mars"), (True, "frobenius")])
def test_strength_0_is_the_base_optimizer_bit_for_bit(decoupled, norm):
    params = trajectory.random_tree({"kernel": (4, 3), "bias": (3,)}, 0)
    grads = trajectory.gradients(params, 5)
    # Dead units give zeros of either sign.
    grads[0] = jax.tree.map(lambda g: -jnp.zeros_like(g), grads[0])
    penalty = mars_sp(lambda count: 0.0 * count, norm=norm, decoupled=decoupled)
    tx = optax.chain(*((SGD, penalty) if decoupled else (penalty, SGD)))
    # Compiled as another program, the base optimizer itself may round otherwise.
    with jax.disable_jit():
        found = layouts.run(tx, params, grads)[0]
        expected = layouts.run(SGD, params, grads)[0]
    layouts.assert_same(found, expected)


# The projection


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
    layouts.assert_agree(
        optax.chain(SGD, mars_pgm(radius, norm=norm, axes=layouts.AXES)),
        lambda key, w: reference.MARSPGM(w, make_sgd(), radius_of(radius, *key), norm),
        layouts.draw(0),
        layouts.gradients(STEPS),
        rtol=1e-5,
        atol=5e-6,
    )


def test_an_injected_radius_follows_its_schedule_and_can_be_changed():
    params = trajectory.random_tree({"kernel": (4, 3), "bias": (3,)}, 0)
    grads = trajectory.gradients(params, STEPS)
    injected = optax.inject_hyperparams(mars_pgm)
    found, _ = layouts.run(optax.chain(SGD, injected(radius=SCHEDULE)), params, grads)
    expected, _ = layouts.run(optax.chain(SGD, mars_pgm(SCHEDULE)), params, grads)
    layouts.assert_close(found, expected)

    by_hand = optax.chain(SGD, injected(radius=0.1))
    seen, state = layouts.run(by_hand, params, grads[:5])
    state[1].hyperparams["radius"] = jnp.asarray(0.5)
    changed, _ = layouts.run(by_hand, seen[-1], grads[5:], state)
    piecewise = optax.piecewise_constant_schedule(0.1, {5: 5.0})
    expected, _ = layouts.run(optax.chain(SGD, mars_pgm(piecewise)), params, grads)
    layouts.assert_close(seen + changed, expected)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    radius=st.floats(0.0, 3.0, width=32),
    scale=st.sampled_from([1e-6, 1e-2, 1.0, 1e3]),
    norm=st.sampled_from(NORMS),
)
def test_no_row_leaves_its_radius(seed, radius, scale, norm):
    rng = np.random.default_rng(seed)
    pretrained, params, step = (
        jnp.asarray(s * rng.normal(size=(5, 4)), jnp.float32) for s in (1, 1, scale)
    )
    tx = mars_pgm(radius, norm=norm)
    updates, _ = tx.update(step, tx.init(pretrained), params)
    moved = np.float64(optax.apply_updates(params, updates))
    c = (moved - np.float64(pretrained)).T
    sizes = np.abs(c).sum(axis=1) if norm == "mars" else np.sqrt((c**2).sum())
    rounding = 1.2e-7 * (np.abs(moved).sum() + np.abs(updates).sum())
    assert np.all(sizes <= radius + rounding)


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


def test_radius_0_holds_at_the_anchor():
    params = trajectory.random_tree({"kernel": (4, 3), "bias": (3,)}, 0)
    found, _ = layouts.run(
        optax.chain(SGD, mars_pgm(0.0)), params, trajectory.gradients(params, 3)
    )
    layouts.assert_same(found, [params] * 3)


@pytest.mark.parametrize("norm", NORMS)
def test_an_infinite_radius_is_the_plain_optimizer(norm):
    params = trajectory.random_tree({"kernel": (4, 3), "bias": (3,)}, 0)
    grads = trajectory.gradients(params, STEPS)
    found, _ = layouts.run(
        optax.chain(SGD, mars_pgm(jnp.inf, norm=norm)), params, grads
    )
    expected, _ = layouts.run(SGD, params, grads)
    layouts.assert_close(found, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_at_the_anchor_without_a_step_nothing_moves(norm):
    params = layouts.draw(0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = mars_pgm(0.3, norm=norm, axes=layouts.AXES)
    updates, _ = jax.jit(tx.update)(zeros, tx.init(params), params)
    layouts.assert_same(updates, zeros)


@pytest.mark.parametrize("norm", NORMS)
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
    with jax.disable_jit():
        found, _ = layouts.run(with_ftp(SGD, **fixed, **options), params, grads)
        expected, _ = layouts.run(tx, params, grads)
    layouts.assert_same(found, expected)
    for key, w in layouts.matrices(found[-1]).items():
        c = w - layouts.matrices(params)[key]
        assert reference.NORMS[norm](c) == pytest.approx(radius, rel=1e-3), key


@pytest.mark.parametrize(
    "radius",
    [-0.1, float("nan"), "1.0", {"b": -1.0, "a": 0.1}, {"b": np.asarray([0.1, -0.1])}],
    ids=repr,
)
def test_a_radius_that_is_no_number_from_0_on_is_refused(radius):
    leaf = " for 'b'" if isinstance(radius, dict) else ""
    with pytest.raises(ValueError, match=rf"radius: expected numbers >= 0{leaf}, got"):
        mars_pgm(radius)


def test_a_radius_that_fits_no_leaf_or_no_layer_is_refused():
    params = layouts.draw(0)
    tx = mars_pgm({"dense": 0.1}, axes=layouts.AXES)
    with pytest.raises(ValueError, match=r"radius: .*no entry for the leaf 'blocks/b"):
        tx.update(params, tx.init(params), params)
    tx = mars_pgm(np.asarray([0.1, 0.2, 0.3]), axes=layouts.AXES)
    with pytest.raises(
        ValueError, match=r"radius: .*'blocks/bias' has shape \(3,\), expected.*\(2,\)"
    ):
        tx.update(params, tx.init(params), params)
