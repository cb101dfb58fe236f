"""Rows and layers: the layouts of flax give what the layout of torch gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import trees
from ftp_optax import LeafAxes, flax_axes, leaf_axes, radii, torch_axes, with_ftp


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


LAYOUTS = {
    "Dense_0/kernel": ((5, 3), to_torch_dense),
    "narrow/kernel": ((1, 3), to_torch_dense),
    "Conv_0/kernel": ((3, 3, 4, 6), to_torch_conv),
    "grouped/kernel": ((3, 3, 2, 6), to_torch_conv),
    "depthwise/kernel": ((3, 3, 1, 6), to_torch_conv),
    "pointwise/kernel": ((1, 1, 4, 6), to_torch_conv),
    "conv1d/kernel": ((3, 4, 6), lambda x: jnp.transpose(x, (2, 1, 0))),
    "attn/query/kernel": ((6, 2, 3), to_torch_attention_input),
    "attn/key/kernel": ((6, 2, 3), to_torch_attention_input),
    "attn/value/kernel": ((6, 2, 3), to_torch_attention_input),
    "attn/q_proj/kernel": ((6, 2, 3), to_torch_attention_input),
    "attn/query/bias": ((2, 3), flatten),
    "attn/out/kernel": ((2, 3, 6), to_torch_attention_output),
    "flat/query/kernel": ((6, 4), to_torch_dense),
    "attn/qkv/kernel": ((6, 18), to_torch_dense),
    "Embed_0/embedding": ((7, 4), same),
    "norm/scale": ((5,), same),
    "norm/bias": ((5,), same),
    "temperature": ((), same),
    "pos_embedding": ((1, 5, 4), same),
    "position": ((5, 4), same),
    "bias_table": ((5, 4), same),
    "cls": ((1, 1, 4), same),
    "lora/lora_a": ((5, 2), to_torch_dense),
}


STACKS = {
    "blocks/mlp/kernel": (5, 3),
    "blocks/conv/kernel": (3, 3, 2, 4),
    "blocks/attn/query/kernel": (6, 2, 3),
    "blocks/attn/query/bias": (2, 3),
    "blocks/attn/out/kernel": (2, 3, 6),
    "blocks/embed/embedding": (7, 4),
    "blocks/pos_embed": (1, 5, 4),
    "blocks/norm/scale": (5,),
    "blocks/gain": (),
}


def run_with_radii(params, grads, axes=None):
    """Params and radii after each step."""
    tx = with_ftp(optax.sgd(0.02, 0.9), axes=axes)
    return [(p, radii(s, p, axes=axes)) for p, s in trees.steps(tx, params, grads)]


def assert_close(ours, theirs, name):
    (w, radius), (other, other_radius) = ours, theirs
    np.testing.assert_allclose(w, other, rtol=0, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(radius, other_radius, rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_flax_layout_runs_as_the_torch_layout_of_the_same_leaf():
    params = trees.random_tree({path: shape for path, (shape, _) in LAYOUTS.items()})
    grads = trees.gradients(params, 15)
    as_torch = lambda tree: {path: LAYOUTS[path][1](x) for path, x in tree.items()}
    ours = run_with_radii(params, grads)
    theirs = run_with_radii(
        as_torch(params), list(map(as_torch, grads)), axes=torch_axes
    )
    for (w, own), (other, other_radii) in zip(ours, theirs, strict=True):
        for path, leaf in as_torch(w).items():
            assert_close((leaf, own[path]), (other[path], other_radii[path]), path)
    assert min(map(float, own.values())) > 0.01  # the radii did move


def test_a_stack_of_layers_runs_as_separate_leaves():
    layers = 3
    params = trees.random_tree({k: (layers, *shape) for k, shape in STACKS.items()}, 3)
    # Layers that differ a thousandfold: a shared radius would show at once.
    scale = np.asarray([1.0, 10.0, 0.01], np.float32)
    scaled = lambda x: x * scale.reshape((layers,) + (1,) * (x.ndim - 1))
    grads = [jax.tree.map(scaled, g) for g in trees.gradients(params, 15)]
    split = lambda tree: {
        f"{i}/{path}": x[i] for path, x in tree.items() for i in range(layers)
    }
    axes = functools.partial(flax_axes, scanned="^blocks/")
    stacked = run_with_radii(params, grads, axes=axes)
    alone = run_with_radii(split(params), list(map(split, grads)))
    for (w, own), (other, other_radii) in zip(stacked, alone, strict=True):
        for path, leaf in split(w).items():
            radius = split(own)[path]
            assert_close((leaf, radius), (other[path], other_radii[path]), path)


def test_layers_may_lie_on_any_axis_and_on_several():
    params = trees.random_tree({"w": (4, 2, 3, 5)}, seed=4)
    grads = trees.gradients(params, 15)
    pick = lambda tree: {"w": tree["w"][:, 1, 2]}
    stacked = run_with_radii(params, grads, axes=LeafAxes(rows=0, layers=(1, -2)))
    alone = run_with_radii(pick(params), list(map(pick, grads)), axes=LeafAxes(rows=0))
    (w, own), (other, other_radii) = stacked[-1], alone[-1]
    assert own["w"].shape == (2, 3)
    assert_close((pick(w)["w"], own["w"][1, 2]), (other["w"], other_radii["w"]), "w")


def test_one_spec_a_tree_and_a_callable_give_the_same():
    params = {
        "a": {"k": jnp.ones((2, 3)), "l": jnp.ones((4, 3))},
        "b": jnp.ones((3, 5)),
    }
    spec = LeafAxes(rows=1)
    for axes in (
        {"a": spec, "b": spec},
        lambda params: jax.tree.map(lambda _: spec, params),
    ):
        assert leaf_axes(params, axes) == leaf_axes(params, spec)


def test_the_first_pattern_that_matches_says_what_the_axes_mean():
    named = {"^a": LeafAxes(rows=0), ".": LeafAxes(rows=1)}
    found = flax_axes({"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}, named=named)
    assert found == {"a": LeafAxes(rows=0), "b": LeafAxes(rows=1)}


def test_an_integer_of_numpy_is_an_axis():
    params = {"b": jnp.ones((2, 3))}
    tx = with_ftp(optax.sgd(0.1), axes=LeafAxes(layers=np.int64(-2)))
    assert tx.init(params)[1].radii.shape == (2,)
