"""What of FTP's state and radii optax's wrappers, schedules and tree tools reach."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import methods
import numpy_reference as reference
import trees
from ftp_optax import ftp, with_ftp
from trees import assert_close, assert_same, feed, gradients

ADAMW = optax.adamw(1e-2)
MASK = {"body": True, "head": False}
BODY = {"body": "body", "head": "head"}


def as_rows(leaf):
    return np.float64(leaf.T if leaf.ndim > 1 else leaf.reshape(1, -1))


def assert_as_by_hand(params, state, start, grads, radius_rates=0.01):
    """Compares with the NumPy transcription after SGD at rate 0.1, leaf by leaf."""
    radii = ftp_optax.radii(state, params)
    rates = np.broadcast_to(radius_rates, len(grads))
    for name, w_0 in trees.flat(start).items():
        w = as_rows(w_0)
        by_hand = reference.FastTrainableProjection(w)
        for grad, rate in zip(grads, rates, strict=True):
            by_hand.adam_util.mu = rate
            g = as_rows(trees.flat(grad)[name])
            w = by_hand.step(w, -0.1 * g, g)
        actual = as_rows(trees.flat(params)[name])
        np.testing.assert_allclose(actual, w, rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(radii[name], by_hand.gamma, rtol=2e-5)


# ---- Masks and groups --------------------------------------------------------------


def test_under_a_mask_the_anchor_is_reset_to_a_tree_of_all_the_params():
    params = methods.pretrained()
    anchor = jax.tree.map(lambda w: w + 1.0, params)
    tx = optax.masked(with_ftp(optax.sgd(1e-2)), MASK)
    state = ftp_optax.reset_anchor(tx.init(params), anchor)
    trained, state = feed(tx, params, gradients(params, 1), state)
    # The first step leads to the anchor, to within the smallest radius.
    assert_close(trained["body"], anchor["body"])
    assert list(ftp_optax.radii(state, params)) == ["body/bias", "body/kernel"]


GROUPS = {
    "masked": lambda inner, **more: optax.masked(inner, MASK, **more),
    "partition": lambda inner, **more: optax.partition(
        {"body": inner, "head": optax.set_to_zero()}, BODY, **more
    ),
}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_a_link_within_takes_grad_with_mask_compatible_extra_args(group):
    params = methods.pretrained()
    grads = gradients(params, 6)
    link = optax.chain(ADAMW, ftp())
    tx = group(link, mask_compatible_extra_args=True)
    trained, state = feed(tx, params, grads, grad=True)
    expected, expected_state = feed(group(with_ftp(ADAMW)), params, grads)
    assert_same(trained, expected)
    assert_same(*(optax.tree.get(s, "displacement") for s in (state, expected_state)))
    with pytest.raises(ValueError, match="mask_compatible_extra_args=True"):
        feed(group(link), params, grads, grad=True)


# ---- Schedules and wrappers --------------------------------------------------------

DECAY = optax.exponential_decay(3e-2, 4, 0.5)
INJECTED = optax.inject_hyperparams(optax.adam)


@pytest.mark.parametrize("form", ["scheduled", "injected", "changed"])
def test_the_learning_rate_of_the_radii_follows_a_schedule_or_is_changed(form):
    params = methods.pretrained()
    grads = gradients(params, 12)
    radius_optimizer = {
        "scheduled": optax.adam(DECAY),
        "injected": INJECTED(learning_rate=DECAY),
        "changed": INJECTED(learning_rate=1e-2),
    }[form]
    tx = with_ftp(optax.sgd(0.1), radius_optimizer=radius_optimizer)
    trained, state = feed(tx, params, grads[:5])
    rates = np.asarray([DECAY(i) for i in range(12)])
    if form == "changed":
        state = optax.tree.set(state, learning_rate=jnp.asarray(2e-3))
        rates = [1e-2] * 5 + [2e-3] * 7
    trained, state = feed(tx, trained, grads[5:], state)
    assert_as_by_hand(trained, state, params, grads, rates)


@pytest.mark.parametrize(
    ("inner", "entry"),
    [
        (optax.chain(optax.clip(1.0), ADAMW), jnp.inf),
        (optax.chain(optax.zero_nans(), ADAMW), jnp.nan),
        (optax.apply_if_finite(ADAMW, 3), jnp.nan),
    ],
    ids=["clip", "zero_nans", "apply_if_finite"],
)
def test_a_gradient_that_the_optimizer_handles_leaves_ftp_finite(inner, entry):
    params = methods.pretrained()
    grads = gradients(params, 6)
    grads[3] = jax.tree.map(lambda g: g.at[..., 0].set(entry), grads[3])
    trained, state = feed(with_ftp(inner), params, grads)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((trained, state)))
    ftp_optax.check_anchor(state, trained)


def test_a_wrapper_trains_on_what_it_receives_even_where_grad_is_given():
    params = methods.pretrained()
    grads = gradients(params, 4)
    # Clipping so hard that the direction of the gradient is another.
    tx = optax.chain(optax.clip(0.2), with_ftp(ADAMW))
    trained = feed(tx, params, grads, grad=True)
    assert_same(trained, feed(tx, params, grads))
    clipped = [jax.tree.map(lambda x: jnp.clip(x, -0.2, 0.2), g) for g in grads]
    assert_close(trained[0], feed(with_ftp(ADAMW), params, clipped)[0])
    link = optax.chain(optax.clip(0.2), ADAMW, ftp())
    assert trees.farthest(trained[0], feed(link, params, grads, grad=True)[0]) > 1e-4


def test_lookahead_runs_ftp_as_its_fast_optimizer():
    params = methods.pretrained()
    grads = gradients(params, 7)
    inner = with_ftp(ADAMW)
    tx = optax.lookahead(inner, sync_period=3, slow_step_size=0.5)
    both, state = feed(tx, optax.LookaheadParams.init_synced(params), grads)

    slow, fast, inner_state = params, params, inner.init(params)
    for i, g in enumerate(grads, start=1):
        fast, inner_state = feed(inner, fast, [g], inner_state)
        if i % 3 == 0:
            slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
            fast = slow
    assert_close((both.fast, both.slow), (fast, slow))
    assert_close(state.fast_state[1], inner_state[1], rtol=1e-5)


# ---- Trees -------------------------------------------------------------------------


def test_tree_get_reads_radii_anchor_and_displacement():
    params = methods.pretrained()
    tx = optax.chain(optax.clip(1.0), with_ftp(ADAMW, exclude="head"))
    _, state = feed(tx, params, gradients(params, 2))
    radii = ftp_optax.radii(state, params)
    read = {f: optax.tree.get(state, f) for f in ("radii", "anchor", "displacement")}
    np.testing.assert_array_equal(read["radii"], jnp.stack(list(radii.values())))
    assert_same(read["anchor"]["body"], params["body"])
    assert jax.tree.structure(read["displacement"]) == jax.tree.structure(
        read["anchor"]
    )
    assert float(jnp.min(jnp.abs(read["displacement"]["body"]["kernel"]))) > 0.0


@pytest.mark.parametrize(
    "params",
    [jnp.asarray(2.0), jnp.arange(1.0, 4.0), 2.0, {"scale": 2.0}],
    ids=["0-d array", "bare array", "Python float", "Python float in a tree"],
)
def test_a_scalar_or_a_bare_array_is_one_row(params):
    as_arrays = jax.tree.map(jnp.asarray, params)
    grads = gradients(as_arrays, 6)
    trained, state = feed(with_ftp(optax.sgd(0.1)), params, grads)
    assert_as_by_hand(trained, state, as_arrays, grads)


# ---- Dtypes ------------------------------------------------------------------------


def test_float16_rows_whose_norm_overflows_float16_are_projected_in_float32():
    anchor = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    params = {"kernel": jnp.full((1000, 2), 100.0, jnp.float16).at[:, 1].set(50.0)}
    tx = with_ftp(optax.sgd(1.0), initial_radius=8e4)
    grads = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    assert float(jnp.finfo(jnp.float16).max) < 1000 * 100.0
    trained, state = feed(tx, params, [grads], tx.init(anchor))
    assert float(ftp_optax.radii(state, params)["kernel"]) == 8e4
    expected = np.full((1000, 2), (80.0, 50.0), np.float16)
    np.testing.assert_array_equal(trained["kernel"], expected)


def test_float64_params_are_projected_in_float64(x64):
    del x64
    params = methods.pretrained("float64")
    grads = gradients(params, 12)
    trained, state = feed(with_ftp(optax.sgd(0.1)), params, grads)
    assert_as_by_hand(trained, state, params, grads)
    # The radii are float32. Given them, the projection is that of float64.
    radii = ftp_optax.radii(state, params)
    for name, w in trees.flat(trained).items():
        w0, c = trees.flat(params)[name], trees.flat(state[1].displacement)[name]
        assert radii[name].dtype == jnp.float32
        norms = np.abs(c).sum(axis=0 if c.ndim > 1 else None) + 1e-8
        factors = np.clip(float(radii[name]) / norms, 0, 1)
        assert np.any(factors < 1)
        np.testing.assert_allclose(w, w0 + factors * c, rtol=1e-14, atol=1e-15)
