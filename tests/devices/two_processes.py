"""One of two processes that train together, over four devices each.

    python two_processes.py RANK PORT FOLDER [--die-at STEP]

Params lie in shards along rows over all eight devices, and each process loads its half
of the batch. At step 25 both save a checkpoint to FOLDER, if there is none; otherwise
they go on from it. In the end process 0 writes FOLDER/result.npz.
"""

import argparse
import os
import pathlib
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp

from devices import network, placements
from devices.checkpoint_cases import SAVED_AT, in_place
from devices.placements import PLACEMENTS

PLACEMENT = PLACEMENTS["rows"]


def spread(value, sharding):
    """A global array of which each process fills in the shards that it holds."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])


def start(mesh):
    """The step, params, state and batch at the start, as global arrays."""
    tx, params = network.optimizer(), network.pretrained()
    specs = placements.specs(PLACEMENT, params)
    state_specs = placements.state_specs(tx, params, specs)
    where, state_where = (placements.shardings(mesh, s) for s in (specs, state_specs))
    params = jax.tree.map(spread, params, where)
    state = jax.jit(tx.init, out_shardings=state_where)(params)
    share = network.BATCH // jax.process_count()
    own = slice(share * jax.process_index(), share * (jax.process_index() + 1))
    batch = jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            placements.batch_sharding(PLACEMENT, mesh), np.asarray(x[own])
        ),
        network.batch(),
    )
    step = jax.jit(
        network.step_of(tx, jax.grad(network.loss)),
        donate_argnums=(0, 1),
        out_shardings=(where, state_where),
    )
    return step, params, state, batch


def train(folder, mesh, die_at):
    step, params, state, batch = start(mesh)
    checkpoint = folder / "checkpoint"
    with ocp.StandardCheckpointer() as checkpointer:
        first = 0
        if checkpoint.exists():
            restored = checkpointer.restore(checkpoint, in_place(params, state))
            params, state = restored["params"], restored["state"]
            first = SAVED_AT
        print(f"from step {first}", flush=True)
        for i in range(first, network.STEPS):
            if i == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if i == SAVED_AT and i != first:
                checkpointer.save(checkpoint, {"params": params, "state": state})
                checkpointer.wait_until_finished()
            params, state = jax.block_until_ready(step(params, state, batch))
    return params, state


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rank", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--die-at", type=int)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.distributed.initialize(f"127.0.0.1:{options.port}", 2, options.rank)
    assert (jax.device_count(), jax.local_device_count()) == (8, 4)
    mesh = placements.mesh_of(PLACEMENT)
    trained = train(options.folder, mesh, options.die_at)
    everywhere = jax.NamedSharding(mesh, jax.P())
    whole = jax.jit(lambda tree: tree, out_shardings=everywhere)(trained)
    found = network.result(*jax.device_get(whole))
    if options.rank == 0:
        np.savez(options.folder / "result.npz", **found)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
