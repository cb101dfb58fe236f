"""What each method owes the loops it runs in: types, buffers, resuming, its leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import methods
import trees
from ftp_optax import LeafAxes
from methods import each, each_distinct
from trees import assert_close, assert_same, gradients

ocp = pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")

STEPS = 6


def run(tx, params, steps=STEPS):
    return trees.feed(tx, params, gradients(params, steps))


# ---- Compiled, mapped and donated --------------------------------------------------


@each
def test_an_abstract_state_has_the_types_of_a_real_one_and_of_a_later_one(name):
    params = methods.pretrained()
    tx = methods.optimizer(name)
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    shapes = jax.eval_shape(tx.init, jax.eval_shape(lambda: params))
    after, later = run(tx, params, 2)
    assert types(shapes) == types(tx.init(params)) == types(later)
    assert types(after) == types(params)


def initialisations(tx, params):
    state = tx.init(params)
    return {
        "eager": lambda: state,
        "compiled": lambda: jax.jit(tx.init)(params),
        "reset": lambda: ftp_optax.reset_anchor(state, params),
    }


@pytest.mark.parametrize(
    ("name", "init"),
    [(name, "eager") for name in methods.METHODS]
    + [("ftp", "compiled"), ("ftp", "reset")],
)
def test_params_and_state_are_donated_without_recompiling(name, init):
    params = methods.pretrained()
    tx = methods.build(name)
    state = initialisations(tx, params)[init]()
    buffers = trees.pointers((params, state))
    assert len(set(buffers)) == len(buffers)
    grads = gradients(params, 4)
    expected, _ = trees.feed(methods.optimizer(name), params, grads)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    for g in grads:
        donated = jax.tree.leaves((params, state))
        params, state = step(params, state, g)
        # Vectors that a step only writes are no arguments of the compiled program.
        assert all(leaf.is_deleted() for leaf in donated if trees.is_weight(leaf))
    # Arrays in the host's memory are bound to their device, and after a step beside
    # them so is all else: to jit that is another call, once.
    assert step._cache_size() == 1 + (name == "ftp, host")
    assert_same(params, expected)


@each
def test_a_scanned_loop_equals_one_of_compiled_steps(name):
    params, tx = methods.pretrained(), methods.optimizer(name)
    grads = gradients(params, STEPS)
    step = lambda carry, g: (trees.step_of(tx, jit=False)(*carry, g), None)
    start = params, tx.init(params)
    scanned, _ = jax.jit(lambda *a: jax.lax.scan(step, *a))(start, trees.stack(grads))
    assert_close(scanned[0], trees.feed(tx, params, grads)[0], rtol=1e-5, atol=1e-6)


@each
def test_an_ensemble_under_vmap_equals_separate_runs(name):
    tx = methods.optimizer(name)
    members = [jax.tree.map(lambda w, f=f: f * w, methods.pretrained()) for f in (1, 3)]
    own = [gradients(member, STEPS, seed) for seed, member in enumerate(members)]
    many = optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
    together, states = trees.feed(
        many, trees.stack(members), list(map(trees.stack, zip(*own, strict=True)))
    )
    for i, (member, grads) in enumerate(zip(members, own, strict=True)):
        alone, state = trees.feed(tx, member, grads)
        mine, my_state = jax.tree.map(lambda x, i=i: x[i], (together, states))
        # Reductions of a batch may run in another order: rounding only.
        assert_close(mine, alone, rtol=1e-5, atol=1e-5)
        for field in ("radii", "omega"):
            np.testing.assert_allclose(
                *(optax.tree.get(s, field, jnp.zeros(1)) for s in (my_state, state)),
                rtol=1e-4,
                atol=1e-6,
            )


@each
def test_a_loop_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(name, tmp_path):
    params = methods.pretrained()
    tx = methods.optimizer(name, exclude="^head/")
    grads = gradients(params, STEPS)
    saved = trees.feed(tx, params, grads[:3])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", saved)
    other = trees.moved(params)
    with ocp.StandardCheckpointer() as checkpointer:
        resumed = checkpointer.restore(tmp_path / "saved", (other, tx.init(other)))
    expected = trees.feed(tx, saved[0], grads[3:], saved[1])
    assert_same(trees.feed(tx, resumed[0], grads[3:], resumed[1]), expected)


# ---- The choice of leaves, their anchor and their dtypes ---------------------------


@each
def test_none_and_empty_trees_stay_as_they_are(name):
    options = {"axes": None} if name == "ftp, stacked" else {}
    tx = methods.build(name, **options)
    params = {"a": jnp.ones((2, 3)), "b": None, "c": [None, jnp.ones(4)]}
    last, _ = run(tx, params, 3)
    assert last["b"] is None
    assert last["c"][0] is None
    without = {"a": params["a"], "c": [params["c"][1]]}
    expected, _ = run(tx, without, 3)
    assert_same(last["a"], expected["a"])
    assert_same(last["c"][1], expected["c"][0])
    for empty in ({}, (), {"a": None, "b": []}):
        assert trees.feed(tx, empty, [empty] * 2)[0] == empty


@each_distinct
def test_a_mask_chooses_as_exclude_does_and_the_others_pass_as_they_are(name):
    pretrained = methods.pretrained()
    params = trees.moved(pretrained)
    excluding = methods.link(name, exclude="^head/")
    expected = methods.one_update(name, excluding, params, pretrained)
    u, _ = methods.outward(name, params, pretrained)
    assert_same(expected["head"], u["head"])
    everywhere = methods.one_update(name, methods.link(name), params, pretrained)
    assert_same(expected["body"], everywhere["body"])
    assert trees.farthest(everywhere["head"], u["head"]) > 1e-3
    for mask in (
        {"body": True, "head": False},
        lambda tree: jax.tree.map(lambda w: w.shape[-1] == 5, tree),
    ):
        tx = methods.link(name, mask=mask)
        masked = methods.one_update(name, tx, params, pretrained)
        assert_same(masked, expected)
        anchor = tx.init(pretrained).anchor
        assert anchor["head"]["kernel"] == optax.MaskedNode()


@each_distinct
def test_an_anchor_can_be_a_number(name):
    params = trees.moved(methods.pretrained())
    ones = jax.tree.map(jnp.ones_like, params)
    expected = methods.one_update(name, methods.link(name), params, ones)
    for anchor in (1.0, 1, np.float32(1.0), jnp.asarray(1.0)):
        tx = methods.link(name, anchor=anchor)
        assert_same(methods.one_update(name, tx, params, ones, start=params), expected)


@pytest.mark.parametrize("name", ["ftp", "spd"])
def test_a_wrapper_is_the_optimizer_and_the_link_that_is_given_grad(name):
    params = methods.pretrained()
    chained = optax.chain(methods.SGD, methods.link(name))
    trained = trees.feed(chained, params, gradients(params, STEPS), grad=True)
    assert_same(trained, run(methods.optimizer(name), params))


@pytest.mark.parametrize("name", [n for n in methods.DISTINCT if n != "l2_sp"])
def test_a_stack_of_layers_is_treated_as_the_layers_are_one_by_one(name):
    # The columns with the largest displacement differ between the layers.
    pretrained = jnp.zeros((2, 3, 4))
    params = jnp.ones((2, 3, 4)).at[0, :, 0].set(2.0).at[1, :, 2].set(3.0)
    params += 0.1 * jax.random.normal(jax.random.key(0), params.shape)
    options = {"initial_radius": 4.0} if name == "ftp" else {}
    updates_with = lambda axes, w0, w: methods.one_update(
        name, methods.link(name, axes=axes, **options), w, w0
    )
    together = updates_with(LeafAxes(rows=2, layers=0), pretrained, params)
    u, extra = methods.outward(name, params, pretrained)
    tx = methods.link(name, axes=LeafAxes(rows=1), **options)
    extra = {key: list(tree) for key, tree in extra.items()}
    state = tx.init(list(pretrained))
    apart, _ = jax.jit(tx.update)(list(u), state, list(params), **extra)
    np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-6, atol=1e-6)
    if name != "ftp":  # whose radii have to be trained to differ
        as_one = updates_with(LeafAxes(rows=2), pretrained, params)
        assert np.max(np.abs(as_one - together)) > 1e-4


@each_distinct
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_updates_have_the_dtype_and_are_computed_in_float32_or_wider(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        pretrained = methods.pretrained(dtype)
        params = trees.moved(pretrained)
        options = {"initial_radius": 0.5} if name == "ftp" else {}
        tx = methods.link(name, **options)
        state = tx.init(pretrained)
        wide = "float64" if dtype == "float64" else "float32"
        dtypes = lambda tree: {x.dtype.name for x in jax.tree.leaves(tree)}
        assert dtypes(state.anchor) == {dtype}
        if name in ("ftp", "digrap"):
            _, learned, optimizer, kept, *_ = state
            assert dtypes((learned, optimizer)) == {"float32", "int32"}
            assert dtypes(kept) == {wide}
        u, extra = methods.outward(name, params, pretrained)
        narrow, _ = jax.jit(tx.update)(u, state, params, **extra)
        assert dtypes(narrow) == {dtype}
        to_wide = lambda tree: jax.tree.map(lambda x: x.astype(wide), tree)
        start, u, params, extra = to_wide(pretrained), *to_wide((u, params, extra))
        expected, _ = jax.jit(tx.update)(u, tx.init(start), params, **extra)
        # One rounding at the end; what cancelled before it was float32.
        eps = float(jnp.finfo(dtype).eps)
        for a, b in zip(*map(jax.tree.leaves, (narrow, expected)), strict=True):
            np.testing.assert_allclose(
                np.float64(a), np.float64(b), rtol=0.51 * eps, atol=1e-6
            )
