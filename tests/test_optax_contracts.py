"""FTP under the transformations of optax and jax that wrap, mask, map or compile it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import numpy_reference as reference
from ftp_optax import FTPState, ftp, with_ftp

MASK = {"body": True, "head": False}


def pretrained(dtype: Any = jnp.float32) -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {
        "body": {"bias": (5,), "kernel": (3, 5)},
        "head": {"bias": (2,), "kernel": (5, 2)},
    }
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    arrays = [jax.random.normal(k, s, dtype) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, arrays)


def gradients(steps: int, params: Any, drift: float = 1.0) -> list[Any]:
    """Noise around a constant gradient: hyper-gradients of either sign."""
    leaves, treedef = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    mean = [drift * rng.normal(size=np.shape(leaf)) for leaf in leaves]
    return [
        jax.tree.unflatten(
            treedef,
            [
                jnp.asarray(m + rng.normal(size=m.shape), jnp.result_type(leaf))
                for m, leaf in zip(mean, leaves, strict=True)
            ],
        )
        for _ in range(steps)
    ]


@functools.cache
def step_of(tx: Any, grad: bool = False, jit: bool = True) -> Any:
    """One step on a given gradient, which `grad` hands on; compiled once."""

    def step(params: Any, state: Any, g: Any):
        extra = {"grad": g} if grad else {}
        updates, state = tx.update(g, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step) if jit else step


def feed(
    tx: Any, params: Any, grads: list[Any], state: Any = None, **flags: bool
) -> tuple[Any, Any]:
    """Params and state after a step of `tx` on each of the given gradients."""
    if state is None:
        state = tx.init(params)
    for g in grads:
        params, state = step_of(tx, **flags)(params, state, g)
    return params, state


def flat(tree: Any) -> dict[str, np.ndarray]:
    paths_and_leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in paths_and_leaves
    }


def row_norms(leaf: np.ndarray) -> np.ndarray:
    return np.abs(leaf).sum(axis=0 if leaf.ndim > 1 else None)


def assert_within_radii(params: Any, anchor: Any, radii: dict[str, Any]) -> None:
    """The constraint, up to two roundings: of the update, and of params + update."""
    before = flat(anchor)
    for name, w in flat(params).items():
        if name in radii:
            wide = w.astype(np.float64)
            drift = row_norms(wide - before[name].astype(np.float64))
            radius = float(radii[name]) * (1 + 1e-6)
            half_ulp = 0.5 * float(jnp.finfo(w.dtype).eps)
            # An update leads at most from one side of the ball to the other.
            rounding = half_ulp * (row_norms(wide) + 2 * radius)
            assert np.all(drift <= radius + rounding), name


def assert_same(
    actual: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0
) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        assert a.dtype == b.dtype, name
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def differ(a: Any, b: Any, by: float = 1e-3) -> bool:
    pairs = zip(flat(a).values(), flat(b).values(), strict=True)
    return any(np.max(np.abs(x - y), initial=0.0) > by for x, y in pairs)


def as_rows(leaf: np.ndarray) -> np.ndarray:
    return np.asarray(leaf.T if leaf.ndim > 1 else leaf.reshape(1, -1), np.float64)


def assert_as_by_hand(
    params: Any,
    state: Any,
    start: Any,
    grads: list[Any],
    kappa: Any = 1.0,
    radius_rate: Any = 1e-2,
) -> None:
    """Compares with the NumPy transcription after SGD at rate 0.1, leaf by leaf.

    `kappa` and `radius_rate` may be lists, with a value for every step.
    """
    kappas, rates = (np.broadcast_to(v, len(grads)) for v in (kappa, radius_rate))
    radii = ftp_optax.radii(state, params)
    for name, w_0 in flat(start).items():
        w = as_rows(w_0)
        by_hand = reference.FastTrainableProjection(w)
        for grad, own_kappa, mu in zip(grads, kappas, rates, strict=True):
            by_hand.kappa, by_hand.adam_util.mu = own_kappa, mu
            g = as_rows(flat(grad)[name])
            w = by_hand.step(w, -0.1 * g, g)
        actual = as_rows(flat(params)[name])
        np.testing.assert_allclose(actual, w, rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(radii[name], by_hand.gamma, rtol=2e-5)


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


def test_masked_takes_an_anchor_that_is_a_tree_of_all_the_params():
    params = pretrained()
    anchor = jax.tree.map(lambda w: w + 1.0, params)
    tx = optax.masked(with_ftp(optax.sgd(1e-2), anchor=anchor), MASK)
    trained, state = feed(tx, params, gradients(1, params))
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


# Trees


def test_tree_get_finds_radii_anchor_and_displacement():
    params = pretrained()
    tx = optax.chain(optax.clip(1.0), with_ftp(optax.adamw(1e-2), exclude="head"))
    _, state = feed(tx, params, gradients(2, params))
    radii = ftp_optax.radii(state, params)
    found = optax.tree.get(state, "radii")
    np.testing.assert_array_equal(found, jnp.stack(list(radii.values())))
    anchor: Any = optax.tree.get(state, "anchor")
    assert_same(anchor["body"], params["body"])
    displacement: Any = optax.tree.get(state, "displacement")
    assert jax.tree.structure(displacement) == jax.tree.structure(state[1][1].anchor)
    assert float(jnp.min(jnp.abs(displacement["body"]["kernel"]))) > 0.0


def kept(_: Any) -> str:
    return "not of the params"


def is_ftp(node: Any) -> bool:
    return isinstance(node, FTPState)


@pytest.mark.parametrize(
    "tx",
    [
        with_ftp(optax.adamw(1e-2)),
        with_ftp(optax.adamw(1e-2), anchor=pretrained()),
        optax.inject_hyperparams(with_ftp)(optax.adamw(1e-2)),
    ],
    ids=["plain", "anchor tree", "injected"],
)
def test_map_params_maps_anchor_and_displacement_and_spares_the_radii(tx):
    params = pretrained()
    specs = {k: {n: f"{k}/{n}" for n in ("bias", "kernel")} for k in params}
    mapped: Any = optax.tree.map_params(
        tx, lambda _, spec: spec, tx.init(params), specs, transform_non_params=kept
    )
    (found,) = filter(is_ftp, jax.tree.leaves(mapped, is_leaf=is_ftp))
    assert found.anchor == specs
    assert found.displacement == specs
    assert found.radii == kept(None)
    # Its count and two moments.
    assert jax.tree.leaves(found.radius_state) == [kept(None)] * 3


def test_map_params_maps_a_state_with_excluded_leaves_as_it_does_a_masked_one():
    params = pretrained()
    tx = with_ftp(optax.adamw(1e-2), exclude="head")
    state = tx.init(params)
    with pytest.raises(ValueError, match="MaskedNode"):
        optax.tree.map_params(tx, lambda v, w: w, state, params)

    def masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    both: Any = optax.tree.map_params(
        tx,
        lambda v, w: v if masked(v) else (v.shape, w.shape),
        state,
        params,
        transform_non_params=kept,
        is_leaf=masked,
    )
    mapped = both[1]
    for field in (mapped.anchor, mapped.displacement):
        assert field["body"] == {"bias": ((5,), (5,)), "kernel": ((3, 5), (3, 5))}
        assert field["head"]["kernel"] == optax.MaskedNode()
    assert mapped.radii == kept(None)


def test_map_params_without_further_trees_needs_no_is_leaf():
    params = pretrained()
    tx = optax.chain(optax.clip(1.0), with_ftp(optax.adamw(1e-2), exclude="head"))
    _, state = feed(tx, params, gradients(3, params))
    doubled: Any = optax.tree.map_params(tx, lambda v: 2 * v, state)
    before, after = state[1][1], doubled[1][1]
    assert_same(after.anchor, jax.tree.map(lambda v: 2 * v, before.anchor))
    assert_same(after.displacement, jax.tree.map(lambda v: 2 * v, before.displacement))
    assert_same((after.radii, after.radius_state), (before.radii, before.radius_state))


OPTIMIZERS = {
    "plain": with_ftp(optax.adamw(1e-2)),
    "exclude": with_ftp(optax.adamw(1e-2), exclude="head"),
    "zero anchor": with_ftp(optax.adamw(1e-2), anchor=0.0, initial_radius=2.0),
    "frobenius": with_ftp(optax.adamw(1e-2), norm="frobenius", hypergradient="active"),
    "bfloat16 displacement": with_ftp(optax.adamw(1e-2), displacement_dtype="bfloat16"),
    "int8 displacement": with_ftp(optax.adamw(1e-2), displacement_dtype="int8"),
    "implicit anchor": with_ftp(optax.adamw(1e-2), anchor="implicit"),
    "host anchor": with_ftp(optax.adamw(1e-2), anchor_memory="pinned_host"),
    "stacked": with_ftp(
        optax.adamw(1e-2),
        axes=functools.partial(ftp_optax.flax_axes, scanned="body"),
    ),
}
each_optimizer = pytest.mark.parametrize("tx", OPTIMIZERS.values(), ids=OPTIMIZERS)


@each_optimizer
def test_an_abstract_state_has_the_types_of_a_real_one(tx):
    params = pretrained()
    abstract = jax.eval_shape(tx.init, params)
    shapes = jax.eval_shape(tx.init, jax.eval_shape(lambda: params))
    _, later = feed(tx, params, gradients(2, params))

    def types(tree: Any) -> Any:
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    assert types(abstract) == types(tx.init(params)) == types(later) == types(shapes)


@each_optimizer
def test_an_ensemble_under_vmap_equals_separate_runs(tx):
    members = [jax.tree.map(lambda w, f=f: w * f, pretrained()) for f in (1, 2, 3)]
    own_grads = [gradients(5, members[0], drift) for drift in (0.1, 1.0, 3.0)]

    def stack(*trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    many = optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
    stacked_grads = [stack(*step) for step in zip(*own_grads, strict=True)]
    together, states = feed(many, stack(*members), stacked_grads)
    for i, (member, grads) in enumerate(zip(members, own_grads, strict=True)):
        alone, state = feed(tx, member, grads)
        # Reductions of a batch may run in another order: rounding only.
        mine, my_state = jax.tree.map(lambda x, i=i: x[i], (together, states))
        assert_same(mine, alone, rtol=1e-6, atol=1e-6)
        assert_same(my_state[1].radii, state[1].radii, rtol=1e-4)


def test_none_in_the_params_stays_none():
    params = {"a": jnp.ones((2, 3)), "b": None, "c": [None, jnp.ones(4)]}
    trained, state = feed(with_ftp(optax.adamw(1e-1)), params, gradients(4, params))
    assert trained["b"] is None
    assert trained["c"][0] is None
    radii = ftp_optax.radii(state, params)
    assert list(radii) == ["a", "c/1"]
    assert_within_radii(trained, params, radii)
    without = {"a": params["a"], "c": [params["c"][1]]}
    expected, _ = feed(with_ftp(optax.adamw(1e-1)), without, gradients(4, without))
    assert_same(trained["a"], expected["a"])
    assert_same(trained["c"][1], expected["c"][0])


@pytest.mark.parametrize("params", [{}, (), {"a": None, "b": []}], ids=repr)
def test_an_empty_tree_is_left_empty(params):
    trained, state = feed(with_ftp(optax.adamw(1e-1)), params, [params] * 3)
    assert trained == params
    assert state[1].radii.shape == (0,)
    assert ftp_optax.radii(state, params) == {}


@pytest.mark.parametrize(
    "params",
    [jnp.asarray(2.0), jnp.arange(1.0, 4.0), 2.0, {"scale": 2.0}],
    ids=["0-d array", "bare array", "Python float", "Python float in a tree"],
)
def test_a_scalar_or_a_bare_array_is_one_row(params):
    as_arrays = jax.tree.map(jnp.asarray, params)
    grads = gradients(6, as_arrays)
    tx = with_ftp(optax.sgd(0.1))
    updates, _ = tx.update(grads[0], tx.init(params), params)
    assert jax.tree.leaves(updates)[0].shape == np.shape(jax.tree.leaves(params)[0])
    trained, state = feed(tx, params, grads)
    assert_as_by_hand(trained, state, as_arrays, grads)


# Dtypes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_projection_holds_to_the_rounding_of_the_params_dtype(dtype):
    params = pretrained(dtype)
    tx = with_ftp(optax.sgd(1e-1))
    trained, state = params, tx.init(params)
    for i, g in enumerate(gradients(30, params)):
        trained, state = feed(tx, trained, [g], state)
        assert_within_radii(trained, params, ftp_optax.radii(state, params))
        if i == 0:
            assert_same(trained, params)
    assert differ(trained, params, by=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_updates_have_the_dtype_of_the_params_and_the_state_is_float32(dtype):
    params = pretrained(dtype)
    tx = with_ftp(optax.sgd(1e-1))
    updates, (_, state) = jax.jit(tx.update)(params, tx.init(params), params)

    def dtypes(tree: Any) -> set[str]:
        return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}

    assert dtypes(updates) == dtypes(state.anchor) == {dtype}
    assert dtypes((state.displacement, state.radii)) == {"float32"}
    assert dtypes(state.radius_state) == {"float32", "int32"}


def test_float16_rows_whose_norm_overflows_float16_are_projected_in_float32():
    anchor = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    params = {"kernel": jnp.full((1000, 2), 100.0, jnp.float16).at[:, 1].set(50.0)}
    tx = with_ftp(optax.sgd(1.0), anchor=anchor, initial_radius=8e4)
    grads = {"kernel": jnp.zeros((1000, 2), jnp.float16)}
    assert float(jnp.finfo(jnp.float16).max) < 1000 * 100.0
    trained, state = feed(tx, params, [grads])
    assert trained["kernel"].dtype == jnp.float16
    assert float(ftp_optax.radii(state, params)["kernel"]) == 8e4
    expected = np.full((1000, 2), (80.0, 50.0), np.float16)
    np.testing.assert_array_equal(trained["kernel"], expected)


def test_float64_params_are_projected_in_float64():
    with jax.enable_x64(True):
        params = pretrained(jnp.float64)
        grads = gradients(12, params)
        tx = with_ftp(optax.sgd(0.1))
        trained, state = feed(tx, params, grads)
        radii = ftp_optax.radii(state, params)
        assert {u.dtype for u in jax.tree.leaves(state[1].displacement)} == {
            jnp.dtype("float64")
        }
        assert {w.dtype for w in jax.tree.leaves(trained)} == {jnp.dtype("float64")}
        assert_as_by_hand(trained, state, params, grads)
        # The radii are float32. Given them, the projection is that of float64.
        for name, w in flat(trained).items():
            w0, c = flat(params)[name], flat(state[1].displacement)[name]
            assert radii[name].dtype == jnp.float32
            factors = np.clip(float(radii[name]) / (row_norms(c) + 1e-8), 0, 1)
            assert np.any(factors < 1)
            np.testing.assert_allclose(w, w0 + factors * c, rtol=1e-14, atol=1e-15)


# Compilation and buffers


@each_optimizer
def test_a_second_step_compiles_nothing(tx, caplog):
    params = pretrained()
    # Arrays in the host's memory are bound to their device, and after a step beside
    # them so is all else: to jit that is another call, once.
    steps = 2 + (tx is OPTIMIZERS["host anchor"])
    *before, last = gradients(steps, params)

    @jax.jit
    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for g in before:
        params, state = step(params, state, g)
    with jax.log_compiles():
        jax.block_until_ready(step(params, state, last))
    assert not [r for r in caplog.records if "ompil" in r.getMessage()]
    with jax.log_compiles():
        jax.jit(lambda x: x + 41.0)(1.0)
    assert [r for r in caplog.records if "ompil" in r.getMessage()]


@each_optimizer
def test_an_eager_run_equals_a_compiled_one(tx):
    params = pretrained()
    grads = gradients(8, params)
    eager, eager_state = feed(tx, params, grads, jit=False)
    compiled, compiled_state = feed(tx, params, grads)
    # Compiled, a product and a sum may be rounded once, where two eager calls round
    # twice: the last digit differs.
    assert_same(eager, compiled, rtol=1e-6, atol=1e-6)
    assert_same(eager_state[1].radii, compiled_state[1].radii, rtol=1e-4)


def pointers(tree: Any) -> list[int]:
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]


def initialisations(tx: Any, params: Any) -> dict[str, Any]:
    state = tx.init(params)
    return {
        "eager": state,
        "compiled": jax.jit(tx.init)(params),
        "reset": ftp_optax.reset_anchor(state, params),
    }


@pytest.mark.parametrize("init", ["eager", "compiled", "reset"])
@pytest.mark.parametrize("own_anchor", [False, True])
def test_params_and_state_can_be_donated_from_the_first_step_on(init, own_anchor):
    params = pretrained()
    anchor = pretrained() if own_anchor else None
    tx = with_ftp(optax.adamw(1e-2), anchor=anchor)
    state = initialisations(tx, params)[init]
    buffers = pointers((params, state, anchor))
    assert len(set(buffers)) == len(buffers)
    first, second = gradients(2, params)
    expected, _ = feed(tx, params, [first, second])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    for g in (first, second):
        donated = jax.tree.leaves((params, state))
        params, state = step(params, state, g)
        assert all(leaf.is_deleted() for leaf in donated)
    assert_same(params, expected)
