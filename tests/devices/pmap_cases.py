"""Training under `jax.pmap`: all replicated, each device its part of the batch."""

import jax
import jax.numpy as jnp

from devices import network


def gradient(params, batch):
    return jax.lax.pmean(jax.grad(network.loss)(params, batch), "batch")


def train():
    devices, tx = jax.device_count(), network.optimizer()

    def on_each(tree):
        return jax.tree.map(lambda x: jnp.stack([x] * devices), tree)

    params = network.pretrained()
    parts = jax.tree.map(
        lambda x: x.reshape(devices, -1, *x.shape[1:]), network.batch()
    )
    step = jax.pmap(network.step_of(tx, gradient), axis_name="batch")
    params, state = network.train(step, *map(on_each, (params, tx.init(params))), parts)
    for array in jax.tree.leaves((params, state)):
        assert all((array[0] == array[i]).all() for i in range(1, devices))
    return network.result(*jax.tree.map(lambda x: x[0], (params, state)))
