"""Training inside `shard_map` and `pmap`: every device sees its own shard alone."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import ftp_optax
from devices import network, placements
from devices.placements import PLACEMENTS


def whole(leaf, spec):
    """The leaf that these shards are of; gradients come back summed, and in shards."""
    for axis, name in enumerate(spec):
        if name is not None:
            leaf = jax.lax.all_gather(leaf, name, axis=axis, tiled=True)
    return leaf


def gradient_of(placement):
    def loss(params, batch):
        def use(name, leaf):
            return whole(leaf, placement.params[name])

        return network.loss(params, batch, use) / jax.device_count()

    return jax.grad(loss)


def specs_as(form, placement, params):
    """What the user may give for `specs`; a single spec if leaves start alike."""
    return {
        "one": P("fsdp"),
        "tree": placements.specs(placement, params),
        "callable": lambda params: placements.specs(placement, params),
    }[form]


def run(tx, gradient, params, specs, mesh, steps=network.STEPS, check_vma=True):
    """Params and radii after steps inside `shard_map`, the batch split over all."""
    state_specs = placements.state_specs(tx, params, specs)
    step = jax.shard_map(
        network.step_of(tx, gradient),
        mesh=mesh,
        in_specs=(specs, state_specs, P(mesh.axis_names)),
        out_specs=(specs, state_specs),
        check_vma=check_vma,
    )
    state = placements.in_shards(tx.init(params), mesh, state_specs)
    params = placements.in_shards(params, mesh, specs)
    batch = jax.device_put(network.batch(), NamedSharding(mesh, P(mesh.axis_names)))
    jitted = jax.jit(step, donate_argnums=(0, 1))
    params, state = network.train(jitted, params, state, batch, steps)
    return network.result(params, state)


def train(
    name, form, stacked=False, check_vma=True, option="default", steps=network.STEPS
):
    placement, params = PLACEMENTS[name], network.pretrained(stacked)
    specs = placements.specs(placement, params)
    tx = network.optimizer(option, specs=specs_as(form, placement, params))
    mesh, gradient = placements.mesh_of(placement), gradient_of(placement)
    return run(tx, gradient, params, specs, mesh, steps, check_vma)


def train_without_specs(name):
    placement, params = PLACEMENTS[name], network.pretrained()
    specs = placements.specs(placement, params)
    mesh = placements.mesh_of(placement)
    run(network.optimizer(), gradient_of(placement), params, specs, mesh, steps=1)


def one_update(tx, takes_grad=False):
    def update(params):
        given = {"grad": jax.tree.map(jnp.ones_like, params)} if takes_grad else {}
        return tx.update(params, tx.init(params), params, **given)[0]

    return update


def projected(method):
    return lambda params: method.project(params, method.init(params))


RELATIVES = {
    "mars_sp": one_update(ftp_optax.mars_sp(0.1)),
    "mars_pgm": one_update(ftp_optax.mars_pgm(0.1)),
    "spd": one_update(ftp_optax.spd(0.1), takes_grad=True),
    "with_spd": one_update(ftp_optax.with_spd(optax.sgd(0.1), 0.1)),
    "digrap": one_update(ftp_optax.digrap()),
    "tpgm": projected(ftp_optax.tpgm()),
}


def trace(relative, name):
    """An update of a relative of the method, of params that lie like that."""
    placement, params = PLACEMENTS[name], network.pretrained()
    specs, mesh = placements.specs(placement, params), placements.mesh_of(placement)
    call = jax.shard_map(
        RELATIVES[relative], mesh=mesh, in_specs=(specs,), out_specs=specs
    )
    jax.eval_shape(call, params)


def train_replicated():
    """Gradients of each device's own loss, averaged by hand."""

    def gradient(params, batch):
        own = jax.lax.pcast(params, "data", to="varying")
        return jax.lax.pmean(jax.grad(network.loss)(own, batch), "data")

    placement, params = PLACEMENTS["data parallel"], network.pretrained()
    specs = jax.tree.map(lambda _: P(), params)
    mesh = placements.mesh_of(placement)
    return run(network.optimizer(), gradient, params, specs, mesh)


def train_under_pmap():
    """All replicated, each device its part of the batch."""
    devices, tx = jax.device_count(), network.optimizer()
    on_each = lambda tree: jax.tree.map(lambda x: jnp.stack([x] * devices), tree)
    gradient = lambda *batch: jax.lax.pmean(jax.grad(network.loss)(*batch), "batch")
    params = network.pretrained()
    parts = jax.tree.map(
        lambda x: x.reshape(devices, -1, *x.shape[1:]), network.batch()
    )
    step = jax.pmap(network.step_of(tx, gradient), axis_name="batch")
    trained = network.train(step, *map(on_each, (params, tx.init(params))), parts)
    for array in jax.tree.leaves(trained):
        assert all((array[0] == array[i]).all() for i in range(1, devices))
    return network.result(*jax.tree.map(lambda x: x[0], trained))
