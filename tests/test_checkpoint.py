"""A checkpoint without the anchor, and the anchor taken again from the weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import trajectory
from ftp_optax import (
    anchor_drift,
    digrap,
    drop_anchor,
    ftp,
    l2_sp,
    reset_anchor,
    restore_anchor,
    summary,
    tpgm,
    with_ftp,
)
from ftp_optax._checkpoint import digest

SHAPES = {"body": (8, 6), "bias": (6,), "head": (6, 2), "scale": ()}


def pretrained():
    return trajectory.random_tree(SHAPES, 0)


def run(tx, params, state, grads):
    for g in grads:
        updates, state = jax.jit(tx.update)(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


TRANSFORMATIONS = {
    "with_ftp": functools.partial(with_ftp, optax.adamw(1e-2), exclude="head"),
    "masked": lambda: optax.masked(
        with_ftp(optax.adamw(1e-2)), {name: name != "head" for name in SHAPES}
    ),
    "l2_sp": lambda: optax.chain(l2_sp(0.1, exclude="head"), optax.adamw(1e-2)),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_run_goes_on_from_a_checkpoint_that_holds_no_anchor(name, tmp_path):
    tx = TRANSFORMATIONS[name]()
    first, second = np.split(np.arange(20), 2)
    grads = trajectory.gradients(pretrained(), 20)
    params, state = run(tx, pretrained(), tx.init(pretrained()), grads[: len(first)])
    expected, _ = run(tx, params, state, grads[len(second) :])

    saved = drop_anchor(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", {"params": params, "state": saved})
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, (params, saved))
        loaded = checkpointer.restore(
            tmp_path / "state", {"params": like[0], "state": like[1]}
        )
    state = restore_anchor(loaded["state"], pretrained())
    found, _ = run(tx, loaded["params"], state, grads[len(second) :])
    for leaf, value in expected.items():
        np.testing.assert_array_equal(found[leaf], value, err_msg=leaf)


def test_a_dropped_anchor_takes_up_16_bytes_a_leaf():
    state = ftp().init(pretrained())
    saved = drop_anchor(state)
    assert {x.nbytes for x in jax.tree.leaves(saved.anchor)} == {16}
    assert len(jax.tree.leaves(saved.anchor)) == len(SHAPES)
    # What was given stays usable.
    assert state.anchor["body"].shape == SHAPES["body"]


@pytest.mark.parametrize("leaf", SHAPES)
def test_other_weights_are_refused_by_name(leaf):
    saved = drop_anchor(ftp().init(pretrained()))
    other = pretrained()
    other[leaf] = jnp.asarray(np.nextafter(np.asarray(other[leaf]), 9.0))
    with pytest.raises(ValueError, match=f"pretrained: the leaf '{leaf}' is not"):
        restore_anchor(saved, other)
    del other[leaf]
    with pytest.raises(ValueError, match=f"pretrained: no leaf '{leaf}'"):
        restore_anchor(saved, other)


def test_weights_in_other_places_have_another_digest():
    w = pretrained()["body"]
    others = [w.T, w[::-1], w.at[0, 0].add(1e-6), jnp.zeros_like(w), -w, w.ravel()]
    seen = {tuple(map(int, digest(x))) for x in [w, *others]}
    assert len(seen) == 1 + len(others)
    assert tuple(map(int, digest(jnp.zeros((3,))))) != tuple(
        map(int, digest(jnp.zeros((4,))))
    )


def test_a_digest_does_not_depend_on_the_dtype_that_holds_the_weights():
    w = pretrained()["body"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(digest(w), digest(w.astype(jnp.float32)))
    params = {"w": w.astype(jnp.float32)}
    saved = drop_anchor(ftp(anchor_dtype="bfloat16").init(params))
    state = restore_anchor(saved, params, anchor_dtype="bfloat16")
    assert state.anchor["w"].dtype == jnp.bfloat16


def test_an_anchor_comes_back_as_init_made_it_where_the_params_are_given():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), pretrained())
    state = ftp(anchor=pretrained()).init(params)
    saved = drop_anchor(state)
    restored = restore_anchor(saved, pretrained(), params=params)
    assert restored.anchor["body"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    with pytest.raises(ValueError, match="pretrained: the leaf 'bias' is not the one"):
        restore_anchor(saved, pretrained())


def test_an_anchor_that_is_a_number_is_restored_from_it():
    state = ftp(anchor=0.5).init(pretrained())
    restored = restore_anchor(drop_anchor(state), 0.5)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    with pytest.raises(ValueError, match="pretrained: the leaf 'bias' is not the one"):
        restore_anchor(drop_anchor(state), 0.0)
    saved = drop_anchor(l2_sp(0.1, anchor=0.0).init(pretrained()))
    with pytest.raises(ValueError, match="params: expected the params of the training"):
        restore_anchor(saved, 0.0)
    assert not restore_anchor(saved, 0.0, params=pretrained()).anchor["body"].any()


def test_weights_cannot_be_compared_under_jit():
    saved = drop_anchor(ftp().init(pretrained()))
    with pytest.raises(ValueError, match=r"cannot be compared .* Call restore_anchor"):
        jax.jit(restore_anchor)(saved, pretrained())


def test_a_float64_leaf_is_digested_in_full(x64):
    del x64
    w = jnp.asarray([1.0, 2.0], jnp.float64)
    assert (digest(w) != digest(w + jnp.asarray([1e-15, 0.0]))).any()


def test_the_anchor_comes_back_where_it_was():
    state = ftp(anchor_memory="pinned_host").init(pretrained())
    state = restore_anchor(
        drop_anchor(state), pretrained(), anchor_memory="pinned_host"
    )
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(state.anchor)}
    assert kinds == {"pinned_host"}


def test_what_cannot_be_dropped_or_restored_is_refused():
    params = pretrained()
    state = ftp().init(params)
    with pytest.raises(ValueError, match="its anchor was dropped already"):
        drop_anchor(drop_anchor(state))
    with pytest.raises(ValueError, match="an anchor for the leaf 'bias' already"):
        restore_anchor(state, params)
    with pytest.raises(ValueError, match="its anchor is implicit"):
        drop_anchor(ftp(anchor="implicit").init(params))
    with pytest.raises(ValueError, match="it holds no FTPState"):
        drop_anchor(optax.adam(1e-3).init(params))


@pytest.mark.parametrize("init", [l2_sp(0.1).init, digrap().init, tpgm().init])
def test_the_anchor_of_every_method_is_dropped_and_restored(init):
    state = init(pretrained())
    saved = drop_anchor(state)
    assert {x.shape for x in jax.tree.leaves(saved.anchor)} == {(4,)}
    restored = restore_anchor(saved, pretrained())
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_group_without_leaves_has_no_anchor_to_drop():
    groups = {"a": ftp(), "b": ftp()}
    tx = optax.partition(groups, jax.tree.map(lambda _: "a", pretrained()))
    state = tx.init(pretrained())
    restored = restore_anchor(drop_anchor(state), pretrained())
    jax.tree.map(np.testing.assert_array_equal, restored, state)


@pytest.mark.parametrize("shape", [(3,), (4,)])  # a digest has the shape (4,) too
def test_a_state_without_its_anchor_is_not_used(shape):
    params = {"w": jnp.ones(shape)}
    saved = drop_anchor(ftp().init(params))
    uses = {
        "update": lambda: ftp(gradient="updates").update(params, saved, params),
        "summary": lambda: summary(saved, params),
        "anchor_drift": lambda: anchor_drift(saved, params, params),
        "reset_anchor": lambda: reset_anchor(saved, params),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=r"anchor was dropped .* restore_anchor"):
            use()
