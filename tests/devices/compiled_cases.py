"""Collectives of compiled steps; nothing is run, so the weights can be wide."""

import math

import jax
import jax.numpy as jnp
import optax

from benchmarks import cost
from devices import network, placements
from devices.placements import PLACEMENTS

WIDTH = 256


def abstract(tree, shardings):
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        tree,
        shardings,
    )


def abstract_params(stacked=False):
    return network.map_shapes(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        network.shapes(WIDTH, stacked),
    )


def bytes_of_params(stacked=False):
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(abstract_params(stacked)))


def norms_and_scalars(split, stacked):
    """How many floats an update may send for each leaf, by hand.

    A device that holds parts of rows has three sums for each of them: of the last norm,
    of the new one, of the hyper-gradient. One that holds some of the rows has, for each
    layer, its sum of hyper-gradients, its largest norm and its share of bound rows.
    """
    placement, sizes = PLACEMENTS[split], {"fsdp": 8, "data": 2, "model": 4}
    if split == "tensor":
        sizes = {"data": 4, "model": 2}
    floats, params = {}, abstract_params(stacked)
    meaning = network.axes(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = network.name_of(path)
        axes = meaning[name]
        parts = [sizes.get(axis, 1) for axis in placements.spec_of(placement, name)]
        beside = [leaf.shape[axis] // parts[axis] for axis in axes.rows]
        layers = leaf.shape[0] if axes.layers else 1
        within_split = any(
            n > 1 for axis, n in enumerate(parts) if axis not in axes.rows
        )
        rows_split = any(parts[axis] > 1 for axis in axes.rows)
        floats[name] = layers * (within_split * 3 * math.prod(beside) + 3 * rows_split)
    return floats


def arguments(tx, placement, mesh, stacked, layers):
    """Params and state as they lie on the mesh: shapes without values."""
    params = abstract_params(stacked)
    specs = placements.specs(placement, params, layers)
    state_specs = placements.state_specs(tx, params, specs)
    where, state_where = (placements.shardings(mesh, s) for s in (specs, state_specs))
    state = jax.eval_shape(tx.init, params)
    return abstract(params, where), abstract(state, state_where)


def transformation(method):
    return {"adamw": optax.adamw(1e-3), "ftp": network.optimizer()}[method]


def in_the_step(method, split, mode):
    """Collectives of a whole step on a batch."""
    placement, tx = PLACEMENTS[split], transformation(method)
    mesh = placements.mesh_of(placement, mode)
    with jax.set_mesh(mesh):
        params, state = arguments(tx, placement, mesh, stacked=False, layers=None)
        x = jax.ShapeDtypeStruct(
            (network.BATCH, WIDTH),
            jnp.float32,
            sharding=placements.batch_sharding(placement, mesh),
        )
        step = network.step_of(tx, jax.grad(placements.loss_of(placement, mode)))
        return collectives(step, (params, state, (x, x)))


def in_the_update(method, split, mode, stacked=False, layers=None):
    """Collectives where the gradients lie like the params already."""
    placement, tx = PLACEMENTS[split], transformation(method)
    mesh = placements.mesh_of(placement, mode)
    with jax.set_mesh(mesh):
        params, state = arguments(tx, placement, mesh, stacked, layers)
        step = network.step_of(tx, lambda params, grads: grads)
        return collectives(step, (params, state, params))


def collectives(step, arguments):
    """Those of a step that leaves params and state where they are."""
    where = jax.tree.map(lambda x: x.sharding, arguments[:2])
    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=where)
    return cost.collectives(jitted.lower(*arguments).compile().as_text())
