"""The relatives of FTP in compiled loops: types, donated buffers, nnx, resuming."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import family
import layouts
from family import each
from ftp_optax import tpgm

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
ocp = pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")


@each
def test_an_abstract_state_has_the_types_of_a_real_one_and_of_a_later_one(name):
    params = family.pretrained()
    tx = family.link(name, exclude="head")
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    shapes = jax.eval_shape(tx.init, jax.eval_shape(lambda: params))
    u, extra = family.outward(name, params, params)
    _, later = jax.eval_shape(tx.update, u, tx.init(params), params, **extra)
    assert types(shapes) == types(tx.init(params)) == types(later)


@each
def test_params_and_state_are_donated_without_recompiling(name):
    params = family.pretrained()
    tx = family.build(name)
    state = tx.init(params)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
    assert len(set(buffers)) == len(buffers)
    grads = family.gradients(params, 3)
    expected, _ = layouts.run(family.optimizer(name), params, grads)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    for g in grads:
        donated = jax.tree.leaves((params, state))
        params, state = step(params, state, g)
        assert all(leaf.is_deleted() for leaf in donated)
    assert step._cache_size() == 1
    layouts.assert_same(params, expected[-1])


class Model(nnx.Module):
    def __init__(self, rngs: Any):
        self.body = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.body(x)))


@nnx.jit(donate_argnums=(0, 1))
def nnx_step(model: Any, optimizer: Any, x: jax.Array) -> Any:
    loss = lambda model: jnp.mean((model(x) - 1.0) ** 2)
    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


@each
def test_a_loop_of_nnx_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    name, tmp_path
):
    tx = family.optimizer(name, exclude="^head/")
    x = jax.random.normal(jax.random.key(0), (16, 3))

    def start(seed: int) -> Any:
        model = Model(nnx.Rngs(seed))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    model, optimizer = start(0)
    losses = [float(nnx_step(model, optimizer, x)) for _ in range(3)]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", nnx.state((model, optimizer)))
    losses += [float(nnx_step(model, optimizer, x)) for _ in range(3)]
    assert losses[-1] < losses[0]
    resumed = start(1)
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(tmp_path / "saved", nnx.state(resumed))
    nnx.update(resumed, saved)
    later = [float(nnx_step(*resumed, x)) for _ in range(3)]
    assert later == losses[3:]
    layouts.assert_same(
        nnx.to_pure_dict(nnx.state(resumed)),
        nnx.to_pure_dict(nnx.state((model, optimizer))),
    )


def test_the_radii_of_tpgm_go_on_from_a_checkpoint(tmp_path):
    pretrained = family.pretrained()
    params = jax.tree.map(lambda w: w + 0.3 * jnp.sign(w), pretrained)
    method = tpgm(exclude="head")

    @jax.jit
    def update(state: Any) -> Any:
        held_out = lambda p: sum(jnp.sum((w - 0.1) ** 2) for w in jax.tree.leaves(p))
        return method.update(state, params, held_out)

    state = method.init(pretrained)
    for _ in range(3):
        state = update(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", state)
    with ocp.StandardCheckpointer() as checkpointer:
        resumed = checkpointer.restore(tmp_path / "saved", method.init(params))
    for _ in range(3):
        state, resumed = update(state), update(resumed)
    layouts.assert_same(resumed, state)
    layouts.assert_same(method.project(params, resumed), method.project(params, state))
