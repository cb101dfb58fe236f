"""What used to go wrong in silence: each trap with what sprang it."""

import functools
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import trees
from ftp_optax import (
    LeafAxes,
    anchor_drift,
    check_anchor,
    digrap,
    flax_axes,
    ftp,
    l2_sp,
    leaf_axes,
    mars_pgm,
    radii,
    reset_anchor,
    summary,
    torch_axes,
    tpgm,
    with_ftp,
    with_spd,
)
from trees import feed, gradients, random_tree

SHAPES = {"kernel": (4, 3), "bias": (3,)}
CLIP = optax.clip_by_global_norm(1.0)
ADAMW = optax.adamw(1e-2)

# ---- A spike of the gradient and the radii -----------------------------------------

FORMS = {
    "inside": (with_ftp(optax.chain(CLIP, ADAMW)), False),
    "before": (optax.chain(CLIP, with_ftp(ADAMW)), False),
    "link": (optax.chain(CLIP, ADAMW, ftp()), True),
}


@functools.cache
def radius_after(form, factor, at=range(10, 11), steps=200):
    """The radius after gradients of one direction, at some steps so many times."""
    tx, grad = FORMS[form]
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.zeros((8, 4))}
    drawn = [
        {"kernel": jnp.asarray(rng.normal(-1, 0.1, (8, 4)), jnp.float32)}
        for _ in range(steps)
    ]
    for t in at:
        drawn[t] = {"kernel": factor * drawn[t]["kernel"]}
    params, state = feed(tx, params, drawn, grad=grad)
    return float(radii(state, params)["kernel"])


@pytest.mark.parametrize("factor", [1e4, 1e25])
@pytest.mark.parametrize("form", FORMS)
def test_a_spike_leaves_the_radii_growing(form, factor):
    assert radius_after(form, factor) > 0.99 * radius_after(form, 1.0)


def test_a_spike_below_the_limit_is_adams_to_remember_unless_clipped_before():
    # As the published method, and as the guide says.
    assert radius_after("before", 100.0) == pytest.approx(1.99, abs=0.01)
    assert radius_after("inside", 100.0) == pytest.approx(0.32, abs=0.01)


def test_a_new_scale_of_the_gradient_is_accepted_after_a_few_steps():
    grown = radius_after("inside", 1e6, at=range(100, 1400), steps=1400)
    assert grown > radius_after("inside", 1.0, steps=100) + 1.0


# ---- Derivatives through training --------------------------------------------------


def trained_loss(pretrained, shift, kind):
    """A loss after five steps of SGD within the method, from where it was `init`."""
    target = random_tree(SHAPES, 1)
    loss = lambda p: sum(jnp.sum((p[k] - target[k]) ** 2) for k in SHAPES)
    params = jax.tree.map(lambda w: w + shift, pretrained)
    if kind == "tpgm":
        method = tpgm()
        state = method.init(pretrained)
        for _ in range(5):
            params = jax.tree.map(
                lambda w, g: w - 0.1 * g, params, jax.grad(loss)(params)
            )
            state = method.update(state, params, loss)
        return loss(method.project(params, state))
    sgd = optax.sgd(0.1)
    tx = {"ftp": with_ftp(sgd), "digrap": optax.chain(digrap(), sgd)}[kind]
    state = tx.init(pretrained)
    for _ in range(5):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return loss(params)


@pytest.mark.parametrize("kind", ["ftp", "digrap", "tpgm"])
def test_a_run_is_differentiable_both_ways_from_its_first_step(kind):
    pretrained = random_tree(SHAPES, 0)
    shift = 0.0 if kind == "ftp" else 0.05
    run = jax.jit(lambda w: trained_loss(w, shift, kind))
    direction = random_tree(SHAPES, 2)
    gradient = jax.jit(jax.grad(run))(pretrained)
    backward = sum(jnp.sum(gradient[k] * direction[k]) for k in SHAPES)
    _, forward = jax.jvp(run, (pretrained,), (direction,))
    moved = lambda eps: jax.tree.map(lambda w, d: w + eps * d, pretrained, direction)
    numeric = (run(moved(1e-2)) - run(moved(-1e-2))) / 2e-2
    np.testing.assert_allclose(backward, forward, rtol=1e-4)
    np.testing.assert_allclose(backward, numeric, rtol=2e-2)


# ---- Prefix trees ------------------------------------------------------------------

HAIKU = {
    "mlp": {"w": jnp.ones((3, 3))},
    "mlp/~/linear_0": {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)},
}


def test_the_longest_prefix_of_a_leaf_is_its_entry():
    mask = {"mlp": False, "mlp/~/linear_0": True}
    assert list(leaf_axes(HAIKU, mask=mask)) == ["mlp/~/linear_0/b", "mlp/~/linear_0/w"]
    axes = {"mlp": LeafAxes(rows=0), "mlp/~/linear_0": LeafAxes(rows=1)}
    assert leaf_axes(HAIKU, axes)["mlp/~/linear_0/w"].rows == (1,)
    assert leaf_axes(HAIKU, axes)["mlp/w"].rows == (0,)
    tx = mars_pgm({"mlp": 0.0, "mlp/~/linear_0": 100.0})
    step = jax.tree.map(jnp.ones_like, HAIKU)
    updates, _ = tx.update(step, tx.init(HAIKU), HAIKU)
    assert np.all(updates["mlp"]["w"] == 0.0)
    assert np.all(updates["mlp/~/linear_0"]["w"] == 1.0)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("mask", True), ("axes", LeafAxes()), ("specs", P()), ("radius", 1.0)],
)
def test_an_entry_that_matches_no_leaf_is_refused(argument, value):
    tree = {"mlp": value, "mlp/~/linear_0": value, "mlp/~/linear_9": value}
    message = f"{argument}: the entry 'mlp/~/linear_9' of the tree matches no leaf"
    tx = mars_pgm(tree) if argument == "radius" else ftp(**{argument: tree})
    with pytest.raises(ValueError, match=message):
        tx.update(HAIKU, tx.init(HAIKU), HAIKU)


def test_entries_for_excluded_and_for_hidden_leaves_are_no_error():
    axes = {"mlp": LeafAxes(), "mlp/~/linear_0": LeafAxes()}
    assert leaf_axes(HAIKU, axes, exclude="linear_0") == {"mlp/w": LeafAxes((), ())}
    part = {"mlp": HAIKU["mlp"], "mlp/~/linear_0": optax.MaskedNode()}
    assert list(leaf_axes(part, axes)) == ["mlp/w"]


# ---- Axes that do not show ---------------------------------------------------------

KNOWN = {
    "layer_0/attn/q_einsum/w": ((4, 32, 8), (0, 2)),
    "layer_0/attn/kv_einsum/w": ((2, 1, 32, 8), (0, 1, 3)),
    "layer_0/attn/qkv_einsum/w": ((3, 4, 32, 8), (0, 1, 3)),
    "layer_0/attn/attn_vec_einsum/w": ((4, 8, 32), (2,)),
    "layer_0/mlp/gating_einsum": ((2, 64, 32), (0, 1)),
    "layer_1/mlp/gating_einsum": ((2, 32, 64), (0, 2)),
    "layer_0/mlp/linear": ((64, 32), (1,)),
    "embedder/input_embedding": ((100, 32), (0,)),
    "attn/q_proj/w": ((32, 2, 16), (1, 2)),
    "attn/q_proj/w_lora_a": ((32, 4), (1,)),
    "attn/q_proj/w_lora_b": ((4, 2, 16), (1, 2)),
    "attn/o_proj/w": ((2, 16, 32), (2,)),
    "conv2_d/w": ((3, 3, 8, 16), (3,)),
    "conv2_d_transpose/w": ((3, 3, 16, 8), (2,)),
    "Conv_0/kernel": ((3, 8, 16), (2,)),
    "batch_norm/offset": ((1, 16), ()),
    "post_norm": ((5, 4), (1,)),
    "posembed_input/pos_embedding": ((1, 9, 4), (0,)),
    "MAPHead_0/probe": ((1, 1, 4), ()),
}
UNKNOWN = {
    "layers/0/weight": (4, 3),
    "fc.weight": (10, 20),
    "cell/weight_ih": (12, 4),
    "in_proj_weight": (30, 10),
    "Einsum_0/kernel": (8, 4, 2),
    "DenseGeneral_0/kernel": (8, 4, 2),
    "experts/kernel": (2, 8, 16, 32),
    "proj/kernel": (8, 4, 2),
    "attn/to_q/kernel": (8, 4, 2),
    "attn/w": (4, 3, 2),
    "conv/weight": (8, 4, 3, 3),
    "qkv/kernel": (32, 3, 4, 8),
    "out_einsum/kernel": (4, 8, 32),
    "layer_0/mlp/gating_einsum": (2, 32, 32),
    "scale_table_of_heads": (4, 3, 2),
}


@pytest.mark.parametrize("path", KNOWN)
def test_known_names_have_their_rows(path):
    shape, rows = KNOWN[path]
    assert flax_axes({path: jnp.zeros(shape)})[path].rows == rows


@pytest.mark.parametrize("path", UNKNOWN)
def test_axes_that_do_not_show_are_refused_with_the_ways_out(path):
    params = {path: jnp.zeros(UNKNOWN[path])}
    with pytest.raises(ValueError, match=r"axes: .*torch_axes.*named=") as info:
        with_ftp(ADAMW).init(params)
    assert repr(path) in str(info.value)
    assert str(UNKNOWN[path]) in str(info.value)
    named = functools.partial(flax_axes, named={".": LeafAxes(rows=0)})
    for axes in (torch_axes, named):
        assert leaf_axes(params, axes)[path].rows == (0,)


def test_one_spec_for_all_leaves_every_vector_one_row():
    found = leaf_axes({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, LeafAxes(rows=-1))
    assert found == {"w": LeafAxes((1,), ()), "b": LeafAxes((), ())}
    stacked = leaf_axes({"b": jnp.ones((2, 3))}, LeafAxes(rows=-1, layers=0))
    assert stacked == {"b": LeafAxes((), (0,))}


@pytest.mark.parametrize("argument", ["scanned", "named"])
def test_a_typo_in_a_pattern_of_axes_is_refused(argument):
    value = {"^block/": LeafAxes()} if argument == "named" else "^block/"
    axes = functools.partial(flax_axes, **{argument: value})
    with pytest.raises(ValueError, match=rf"{argument}: .*'\^block/' matches no leaf"):
        with_ftp(ADAMW, axes=axes).init({"blocks": {"kernel": jnp.ones((2, 3, 3))}})


@pytest.mark.parametrize("argument", ["axes", "specs", "mask"])
def test_a_callable_that_takes_more_than_the_params_is_told_so(argument):
    with pytest.raises(TypeError, match=f"{argument}: a callable is given the params"):
        ftp(**{argument: lambda path, leaf: None}).init(HAIKU)


def test_an_equinox_module_runs_with_torch_axes_once_it_is_filtered():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"params: .*activation' is no array.*filter"):
        with_ftp(ADAMW, axes=torch_axes).init(model)
    params = eqx.filter(model, eqx.is_inexact_array)
    with pytest.raises(ValueError, match=r"axes: .*'layers/0/weight'.*torch_axes"):
        with_ftp(ADAMW).init(params)
    assert leaf_axes(params, torch_axes)["layers/0/weight"].rows == (0,)


def test_a_callable_that_was_taken_for_a_schedule_is_told_of_static_args():
    params = {"kernel": jnp.ones((3, 2))}
    with pytest.raises(TypeError, match=r"axes: .*static_args=\('axes',\)"):
        optax.inject_hyperparams(with_ftp)(ADAMW, axes=torch_axes).init(params)
    injected = optax.inject_hyperparams(with_ftp, static_args=("axes",))
    state = injected(ADAMW, axes=torch_axes).init(params)
    assert optax.tree.get(state, "geometry")[0, 0] == 1


def test_a_pattern_of_axes_may_match_leaves_that_are_left_alone():
    params = {"blocks": {"kernel": jnp.ones((3, 4, 4))}, "head": jnp.ones((4, 2))}
    axes = functools.partial(flax_axes, scanned="^blocks/")
    assert list(leaf_axes(params, axes, exclude="^blocks/")) == ["head"]
    labels = {"blocks": "b", "head": "h"}
    tx = optax.partition({k: with_ftp(ADAMW, axes=axes) for k in "bh"}, labels)
    state = tx.init(params)
    read = jax.jit(functools.partial(radii, axes=axes))
    assert {k: r.shape for k, r in read(state, params).items()} == {
        "blocks/kernel": (3,),
        "head": (),
    }


# ---- What may stand inside, and where a link stands --------------------------------


@pytest.mark.parametrize("wrap", [with_ftp, lambda inner: with_spd(inner, 0.5)])
@pytest.mark.parametrize("name", ["schedule_free", "MultiSteps", "lookahead", "sam"])
def test_an_optimizer_that_keeps_weights_elsewhere_is_refused_inside(wrap, name):
    params = random_tree(SHAPES, 0)
    inner = {
        "schedule_free": optax.contrib.schedule_free_adamw(1e-2),
        "MultiSteps": optax.chain(optax.MultiSteps(ADAMW, 4).gradient_transformation()),
        "sam": optax.contrib.sam(ADAMW, optax.sgd(0.1)),
        "lookahead": optax.GradientTransformation(
            lambda p: optax.lookahead(ADAMW, 5, 0.5).init(
                optax.LookaheadParams.init_synced(p)
            ),
            ADAMW.update,
        ),
    }[name]
    with pytest.raises(ValueError, match=rf"optimizer: .*{name}.* around"):
        wrap(inner).init(params)


def test_a_link_before_the_optimizer_is_refused():
    params = random_tree(SHAPES, 0)
    (grads,) = gradients(params, 1)
    tx = optax.chain(ftp(), ADAMW)
    with pytest.raises(ValueError, match=r"updates: ftp .*behind the optimizer"):
        tx.update(grads, tx.init(params), params, grad=grads)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_link_without_the_gradient_warns_once_of_the_line_that_calls_it(compiled):
    params = random_tree(SHAPES, 0)
    tx = optax.chain(ADAMW, ftp())
    step = lambda g, s, p: tx.update(g, s, p)
    state, update = tx.init(params), jax.jit(step) if compiled else step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for grads in gradients(params, 3):
            _, state = update(grads, state, params)
    (warning,) = caught
    for form in ("with_ftp(optimizer, ...)", "grad=grads"):
        assert form in str(warning.message)
    assert warning.filename == __file__
    assert warning.lineno == step.__code__.co_firstlineno


def test_a_state_of_another_model_is_refused_before_the_optimizer_meets_it():
    params, other = {"w": jnp.ones((3, 2))}, {"w": jnp.ones((4, 2))}
    tx = with_ftp(ADAMW)
    with pytest.raises(ValueError, match=r"state: .*'w' has shape \(4, 2\), expected"):
        tx.update(params, tx.init(other), params)
    with pytest.raises(TypeError, match=r"state: expected the pair of states"):
        tx.update(params, tx.init(params)[1], params)
    with pytest.raises(
        ValueError, match=r"updates: .*'w' has shape \(4, 2\), expected"
    ):
        tx.update(other, tx.init(params), params)


# ---- Where the anchor is -----------------------------------------------------------


def test_weights_loaded_after_init_are_seen_before_and_after_the_first_step():
    params = {"body": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    loaded = {"body": {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.ones(2)}}
    tx = with_ftp(ADAMW)
    state = tx.init(params)
    check_anchor(state, params)
    with pytest.raises(ValueError, match=r"params: the leaf 'body/kernel' is up to 5 "):
        check_anchor(state, loaded)
    check_anchor(reset_anchor(state, loaded), loaded)
    grads = [jax.tree.map(jnp.ones_like, params)] * 3
    trained, state = feed(tx, loaded, grads, state)
    leaf = summary(state, trained)["body/kernel"]
    assert leaf.first_norm > 100 * leaf.norm


def test_an_adapter_that_starts_elsewhere_than_at_zero_is_named():
    params = {"lora_a": jnp.ones((4, 2)), "lora_b": jnp.zeros((2, 3))}
    with pytest.raises(ValueError, match=r"params: the leaf 'lora_a' .*anchor=0.0"):
        check_anchor(with_ftp(ADAMW, anchor=0.0).init(params), params)
    check_anchor(with_ftp(ADAMW, anchor=0.0, exclude="lora_a").init(params), params)
    # A penalty toward a number may start anywhere.
    check_anchor(with_spd(ADAMW, 1.0, anchor=0.0).init(params), params)


@pytest.mark.parametrize("norm", ["mars", "frobenius"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("initial_radius", [1e-8, jnp.inf])
def test_a_resumed_run_passes_and_one_of_other_weights_does_not(
    initial_radius, dtype, norm
):
    params = jax.tree.map(
        lambda w: w.astype(dtype), random_tree({"kernel": (40, 3)}, 0)
    )
    tx = with_ftp(ADAMW, initial_radius=initial_radius, norm=norm)
    state = tx.init(params)
    check_anchor(state, params)
    moved = jax.tree.map(lambda w: 1.5 * w, params)
    with pytest.raises(ValueError, match=r"params: the leaf 'kernel'"):
        check_anchor(state, moved)
    trained, state = feed(tx, params, gradients(params, 20), state)
    check_anchor(state, trained)
    with pytest.raises(ValueError, match=r"params: the leaf 'kernel'"):
        check_anchor(state, moved)


def test_every_method_with_an_anchor_is_checked_before_its_first_step():
    params = random_tree(SHAPES, 0)
    implicit = with_ftp(ADAMW, anchor="implicit")
    for tx in (optax.chain(l2_sp(0.1), ADAMW), optax.chain(digrap(), implicit)):
        with pytest.raises(ValueError, match="params: the leaf"):
            check_anchor(tx.init(params), jax.tree.map(lambda w: 2 * w, params))
        trained, state = feed(tx, params, gradients(params, 4))
        check_anchor(state, trained)
    # An implicit anchor is where the params are.
    check_anchor(implicit.init(params), trained)
    with pytest.raises(ValueError, match=r"state: it holds no FTPState or AnchorState"):
        check_anchor(ADAMW.init(params), params)
    with pytest.raises(ValueError, match=r"not known under jit"):
        jax.jit(check_anchor)(with_ftp(ADAMW).init(params), params)


@pytest.mark.parametrize("params", [jnp.zeros(3), {"w": jnp.zeros(3)}], ids=type)
def test_a_bare_array_is_checked_as_a_leaf_of_a_tree_is(params):
    moved = jax.tree.map(lambda w: w + 5.0, params)
    with pytest.raises(ValueError, match=r"up to 5 from its anchor"):
        check_anchor(with_ftp(ADAMW).init(params), moved)


def test_a_state_without_the_anchor_that_it_was_saved_without_is_refused():
    params = random_tree(SHAPES, 0)
    saved = optax.tree.set(with_ftp(ADAMW).init(params), anchor=None)
    for function in (check_anchor, reset_anchor):
        with pytest.raises(ValueError, match=r"state: .* saved without its anchor"):
            function(saved, params)


def test_an_anchor_wider_than_the_params_is_where_they_are_rounded():
    wide = random_tree({"kernel": (40, 3)}, 0)
    params = jax.tree.map(lambda w: w.astype("bfloat16"), wide)
    state = with_ftp(ADAMW).init(wide)
    check_anchor(state, params)
    trained, state = feed(with_ftp(ADAMW), params, gradients(params, 9))
    check_anchor(state, trained)


def test_an_optimizer_within_an_nnx_module_is_reset_in_place():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")

    class Trainer(nnx.Module):
        def __init__(self):
            self.model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
            self.optimizer = nnx.Optimizer(self.model, with_ftp(ADAMW), wrt=nnx.Param)

    trainer = Trainer()
    grads = nnx.state(trainer.model, nnx.Param)
    trainer.optimizer.update(trainer.model, grads)
    step = lambda: int(jax.tree.leaves(trainer.optimizer.opt_state[1].step)[0])
    assert step() == 1
    reset_anchor(trainer, trainer.model)
    assert step() == 0


def test_a_state_made_with_other_axes_says_what_the_last_step_was_made_with():
    params = {"kernel": jnp.zeros((4, 3))}
    state = with_ftp(ADAMW, axes=LeafAxes()).init(params)
    tx = with_ftp(ADAMW)
    trained, state = feed(tx, params, gradients(params, 9), state)
    check_anchor(state, trained)
    assert state[1].geometry.tolist() == [[2, 0, 0]]


def test_a_host_anchor_that_stays_on_the_device_is_refused(monkeypatch):
    # As some versions of jax leave it there on a CPU.
    monkeypatch.setattr(jax, "device_put", lambda x, *where: x)
    params = random_tree(SHAPES, 0)
    init = with_ftp(ADAMW, anchor_memory="pinned_host").init
    for function in (init, jax.jit(init)):
        with pytest.raises(ValueError, match=r"anchor_memory: jax .* leaves .*device"):
            function(params)


# ---- Radii -------------------------------------------------------------------------


def test_an_infinite_radius_that_decays_is_refused():
    decaying = optax.adamw(1e-2, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"radius_optimizer: .*NaN of initial_radius"):
        ftp(radius_optimizer=decaying, initial_radius=jnp.inf)
    ftp(radius_optimizer=decaying)
    ftp(initial_radius=jnp.inf)
    with_value = optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau())
    ftp(radius_optimizer=with_value, initial_radius=jnp.inf)


def test_radii_of_complex_leaves_split_into_two_are_read():
    params = {"w": jnp.ones((2, 3), "complex64"), "v": jnp.ones(3)}
    tx = optax.contrib.split_real_and_imaginary(with_ftp(ADAMW))
    state = tx.init(params)
    assert sorted(radii(state, params)) == ["v", "w/imaginary", "w/real"]
    check_anchor(state, params)
    with pytest.raises(ValueError, match=r"params: the leaf 'w/imaginary'"):
        check_anchor(state, {**params, "w": params["w"] + 1j})


def test_two_states_that_constrain_one_leaf_are_not_read_as_one():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    both = with_ftp(ADAMW, exclude="b").init(params), with_ftp(ADAMW).init(params)
    for read in (radii, summary, lambda *both: anchor_drift(*both, params)):
        with pytest.raises(
            ValueError, match=r"state: the leaf 'a' .* more than one st"
        ):
            read(both, params)
    apart = both[0], with_ftp(ADAMW, exclude="a").init(params)
    assert sorted(radii(apart, params)) == sorted(summary(apart, params)) == ["a", "b"]


def test_summary_logs_every_step_of_a_compiled_loop():
    params = random_tree(SHAPES, 0)
    tx = with_ftp(ADAMW, exclude="bias")

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), summary(state, params)

    grads = trees.stack(gradients(params, 9))
    (trained, state), logged = jax.jit(lambda c: jax.lax.scan(step, c, grads))(
        (params, tx.init(params))
    )
    assert list(logged) == ["kernel"]
    assert logged["kernel"].radius.shape == (9,)
    assert np.all(logged["kernel"].first_norm == logged["kernel"].norm[0])
    last = jax.tree.map(lambda x: x[-1], logged)
    trees.assert_close(last, summary(state, trained))


# ---- The API -----------------------------------------------------------------------


@pytest.mark.parametrize("function", [ftp, with_ftp])
def test_there_are_at_most_twelve_arguments_and_with_ftp_explains_all(function):
    arguments = [a for a in inspect.signature(function).parameters if a != "optimizer"]
    assert len(arguments) <= 12
    assert all(f"      {name}: " in with_ftp.__doc__ for name in arguments)
