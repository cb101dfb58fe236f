"""Training that is saved in shards, and goes on over another number of devices."""

import jax
import orbax.checkpoint as ocp

from devices import network, placements
from devices.placements import PLACEMENTS

SAVED_AT = 25


def in_place(params, state):
    """What orbax is to restore, with the shardings that these arrays have."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        {"params": params, "state": state},
    )


def save(path, split):
    with jax.set_mesh(placements.mesh_of(PLACEMENTS[split])):
        step, params, state, batch = placements.arranged(split)
        params, state = network.train(step, params, state, batch, SAVED_AT)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, {"params": params, "state": state})


def go_on(path, split):
    """Params and radii of the whole run, and how many devices its arrays lie on."""
    with jax.set_mesh(placements.mesh_of(PLACEMENTS[split])):
        step, params, state, batch = placements.arranged(split)
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(path, in_place(params, state))
        params, state = restored["params"], restored["state"]
        holders = {len(x.sharding.device_set) for x in jax.tree.leaves(restored)}
        rest = network.STEPS - SAVED_AT
        return network.result(*network.train(step, params, state, batch, rest)), holders
