"""Where an anchor lies that does not come from the params, and one taken anew."""

import jax
import numpy as np

import ftp_optax
from devices import network, placements
from devices.placements import PLACEMENTS


def of_anchor(mode, source):
    """What lies elsewhere than it should; `source` says where the anchor is from."""
    placement = PLACEMENTS["rows"]
    mesh = placements.mesh_of(placement, mode)
    on_host = jax.tree.map(np.asarray, network.pretrained())
    with jax.set_mesh(mesh):
        where = placements.shardings(mesh, placements.specs(placement, on_host))
        params = jax.device_put(on_host, where)
        state = _state(source, params, on_host)
        return placements.misplaced(state, jax.tree.leaves(where), mesh)


def _state(source, params, on_host):
    if source.startswith("number"):
        tx = network.optimizer(anchor=0.0)
        return jax.jit(tx.init)(params) if source == "number, jit" else tx.init(params)
    state = network.optimizer().init(params)
    if source == "reset":
        return ftp_optax.reset_anchor(state, on_host)
    return jax.jit(ftp_optax.reset_anchor)(state, params)
