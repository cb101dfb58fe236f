"""Rows and layers: the layouts of flax give what the layout of torch gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trajectory
from ftp_optax import LeafAxes, flax_axes, radii, torch_axes, with_ftp

STEPS = 15


def to_torch_dense(x):
    return jnp.moveaxis(x, -1, 0)


def to_torch_conv(x):
    return jnp.transpose(x, (3, 2, 0, 1))


def to_torch_attention_input(x):
    return jnp.moveaxis(x, 0, -1).reshape(-1, x.shape[0])


def to_torch_attention_output(x):
    return jnp.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)


def flatten(x):
    return x.reshape(-1)


def same(x):
    return x


LAYOUTS = [
    ("Dense_0/kernel", (5, 3), to_torch_dense),
    ("narrow/kernel", (1, 3), to_torch_dense),
    ("Conv_0/kernel", (3, 3, 4, 6), to_torch_conv),
    ("grouped/kernel", (3, 3, 2, 6), to_torch_conv),
    ("depthwise/kernel", (3, 3, 1, 6), to_torch_conv),
    ("pointwise/kernel", (1, 1, 4, 6), to_torch_conv),
    ("conv1d/kernel", (3, 4, 6), lambda x: jnp.transpose(x, (2, 1, 0))),
    ("attn/query/kernel", (6, 2, 3), to_torch_attention_input),
    ("attn/key/kernel", (6, 2, 3), to_torch_attention_input),
    ("attn/value/kernel", (6, 2, 3), to_torch_attention_input),
    ("attn/q_proj/kernel", (6, 2, 3), to_torch_attention_input),
    ("attn/query/bias", (2, 3), flatten),
    ("attn/out/kernel", (2, 3, 6), to_torch_attention_output),
    ("flat/query/kernel", (6, 4), to_torch_dense),
    ("attn/qkv/kernel", (6, 18), to_torch_dense),
    ("Embed_0/embedding", (7, 4), same),
    ("norm/scale", (5,), same),
    ("norm/bias", (5,), same),
    ("temperature", (), same),
    ("pos_embedding", (1, 5, 4), same),
    ("position", (5, 4), same),
    ("bias_table", (5, 4), same),
    ("cls", (1, 1, 4), same),
    ("lora/lora_a", (5, 2), to_torch_dense),
]


def assert_same_run(found, expected, transform, found_radii, expected_radii):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(transform(ours), theirs, rtol=0, atol=2e-6)
    for ours, theirs in zip(found_radii, expected_radii, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("path", "shape", "transform"), LAYOUTS, ids=[path for path, _, _ in LAYOUTS]
)
def test_a_flax_layout_runs_as_the_torch_layout_of_the_same_leaf(
    path, shape, transform
):
    params = trajectory.random_tree({path: shape}, seed=0)
    grads = trajectory.gradients(params, STEPS)
    base = optax.adamw(0.02)
    ours, our_radii = trajectory.run(with_ftp(base), params, grads)
    theirs, their_radii = trajectory.run(
        with_ftp(base, axes=torch_axes),
        jax.tree.map(transform, params),
        [jax.tree.map(transform, g) for g in grads],
        torch_axes,
    )
    pick = lambda runs: [tree[path] for tree in runs]
    assert_same_run(
        pick(ours), pick(theirs), transform, pick(our_radii), pick(their_radii)
    )
    assert float(our_radii[-1][path]) > 0.01  # the radii did move


STACKS = [
    ("blocks/mlp/kernel", (5, 3)),
    ("blocks/conv/kernel", (3, 3, 2, 4)),
    ("blocks/attn/query/kernel", (6, 2, 3)),
    ("blocks/attn/query/bias", (2, 3)),
    ("blocks/attn/out/kernel", (2, 3, 6)),
    ("blocks/embed/embedding", (7, 4)),
    ("blocks/pos_embed", (1, 5, 4)),
    ("blocks/norm/scale", (5,)),
    ("blocks/gain", ()),
]


@pytest.mark.parametrize(("path", "shape"), STACKS, ids=[path for path, _ in STACKS])
def test_a_stack_of_layers_runs_as_separate_leaves(path, shape):
    layers = 3
    axes = functools.partial(flax_axes, scanned="^blocks/")
    params = trajectory.random_tree({path: (layers, *shape)}, seed=3)
    # Layers that differ a thousandfold: a shared radius would show at once.
    scale = jnp.asarray([1.0, 10.0, 0.01]).reshape((layers,) + (1,) * len(shape))
    grads = [{path: g[path] * scale} for g in trajectory.gradients(params, STEPS)]
    base = optax.sgd(0.02, 0.9)
    stacked, stacked_radii = trajectory.run(
        with_ftp(base, axes=axes), params, grads, axes
    )
    for i in range(layers):
        alone, alone_radii = trajectory.run(
            with_ftp(base), {path: params[path][i]}, [{path: g[path][i]} for g in grads]
        )
        assert_same_run(
            [tree[path][i] for tree in stacked],
            [tree[path] for tree in alone],
            same,
            [r[path][i] for r in stacked_radii],
            [r[path] for r in alone_radii],
        )


def test_layers_may_lie_on_any_axis_and_on_several():
    params = trajectory.random_tree({"w": (4, 2, 3, 5)}, seed=4)
    grads = trajectory.gradients(params, STEPS)
    axes = LeafAxes(rows=0, layers=(1, -2))
    stacked, stacked_radii = trajectory.run(
        with_ftp(optax.sgd(0.02), axes=axes), params, grads, axes
    )
    assert stacked_radii[-1]["w"].shape == (2, 3)
    alone, alone_radii = trajectory.run(
        with_ftp(optax.sgd(0.02), axes=LeafAxes(rows=0)),
        {"w": params["w"][:, 1, 2]},
        [{"w": g["w"][:, 1, 2]} for g in grads],
    )
    np.testing.assert_allclose(stacked[-1]["w"][:, 1, 2], alone[-1]["w"], atol=2e-6)
    np.testing.assert_allclose(
        stacked_radii[-1]["w"][1, 2], alone_radii[-1]["w"], rtol=1e-5
    )


def test_one_spec_a_tree_and_a_callable_give_the_same():
    params = {
        "a": {"k": jnp.ones((2, 3)), "l": jnp.ones((4, 3))},
        "b": jnp.ones((3, 5)),
    }
    grads = [jax.tree.map(lambda x: 0.1 * x, params)] * 4
    spec = LeafAxes(rows=1)
    forms = [
        spec,
        {"a": spec, "b": spec},
        lambda params: jax.tree.map(lambda _: spec, params),
    ]
    runs = [
        trajectory.run(with_ftp(optax.sgd(0.1), axes=axes), params, grads, axes)
        for axes in forms
    ]
    for run in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, run, runs[0])


def test_a_leaf_whose_axes_are_none_is_left_alone():
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}
    axes = {"a": LeafAxes(rows=1), "b": None}
    tx = with_ftp(optax.sgd(0.1), axes=axes)
    state = tx.init(params)
    updates, _ = tx.update(params, state, params)
    np.testing.assert_array_equal(updates["b"], -0.1 * params["b"])
    assert list(radii(state, params, axes=axes)) == ["a"]


def test_a_fused_qkv_kernel_has_one_radius_where_split_ones_have_three():
    fused = {"qkv": {"kernel": jnp.ones((4, 12))}}
    split = {
        name: {"kernel": jnp.ones((4, 2, 2))} for name in ("query", "key", "value")
    }
    tx = with_ftp(optax.sgd(0.1))
    assert len(radii(tx.init(fused), fused)) == 1
    assert list(radii(tx.init(split), split)) == [
        "key/kernel",
        "query/kernel",
        "value/kernel",
    ]


def test_the_first_pattern_that_matches_says_what_the_axes_mean():
    named = {"^a": LeafAxes(rows=0), ".": LeafAxes(rows=1)}
    found = flax_axes({"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}, named=named)
    assert found == {"a": LeafAxes(rows=0), "b": LeafAxes(rows=1)}


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_the_leaf_lacks_is_refused(axis):
    tx = with_ftp(optax.sgd(0.1), axes=LeafAxes(rows=axis))
    with pytest.raises(ValueError, match=rf"axes: .*rows.*{axis}.*'a/b'.*\(2, 3\)"):
        tx.init({"a": {"b": jnp.ones((2, 3))}})


def test_an_axis_named_twice_is_refused():
    tx = with_ftp(optax.sgd(0.1), axes=LeafAxes(rows=(0, 1), layers=-1))
    with pytest.raises(ValueError, match=r"axes: .*'b'.*more than once"):
        tx.init({"b": jnp.ones((2, 3))})


def test_a_tree_of_axes_that_lacks_a_leaf_is_refused():
    tx = with_ftp(optax.sgd(0.1), axes={"a": LeafAxes()})
    with pytest.raises(ValueError, match=r"axes: .*no entry for the leaf 'b'.*'a'"):
        tx.init({"a": jnp.ones(3), "b": jnp.ones(3)})


def test_anything_but_leaf_axes_is_refused():
    tx = with_ftp(optax.sgd(0.1), axes=lambda params: {"b": (0,)})
    with pytest.raises(
        ValueError, match=r"axes: the entry 'b/0' of the tree matches no leaf"
    ):
        tx.init({"b": jnp.ones((2, 3))})


@pytest.mark.parametrize("rows", [None, 1.0, "0"])
def test_axes_that_are_no_integers_are_refused(rows):
    tx = with_ftp(optax.sgd(0.1), axes=LeafAxes(rows=rows))
    with pytest.raises(TypeError, match=r"axes: .*integer.*LeafAxes.rows.*'b'"):
        tx.init({"b": jnp.ones((2, 3))})


def test_an_integer_of_numpy_is_an_axis():
    params = {"b": jnp.ones((2, 3))}
    tx = with_ftp(optax.sgd(0.1), axes=LeafAxes(layers=np.int64(-2)))
    assert tx.init(params)[1].radii.shape == (2,)


def test_patterns_that_can_be_read_only_once_are_refused():
    axes = functools.partial(flax_axes, scanned=map(str, ["^b"]))
    with pytest.raises(TypeError, match=r"scanned: expected a regular expression"):
        with_ftp(optax.sgd(0.1), axes=axes).init({"b": jnp.ones((2, 3))})


def test_an_attention_stack_that_was_not_declared_is_refused():
    params = {"blocks": {"query": {"kernel": jnp.ones((3, 4, 2, 2))}}}
    with pytest.raises(ValueError, match=r"'blocks/query/kernel'.*scanned"):
        with_ftp(optax.sgd(0.1)).init(params)


def test_a_scanned_leaf_without_axes_is_refused():
    axes = functools.partial(flax_axes, scanned="gain")
    with pytest.raises(ValueError, match=r"scanned: .*'gain'"):
        with_ftp(optax.sgd(0.1), axes=axes).init({"gain": jnp.ones(())})
