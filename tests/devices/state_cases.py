"""Where the arrays of the state lie, by every way to make one."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import ftp_optax
from devices import network, placements
from devices.placements import PLACEMENTS, misplaced

SPLITS = ("rows", "columns", "tensor and rows or columns")


def of_init(split, mode, how):
    """What `tx.init` misplaces, eager or under `jit`."""
    placement, tx = PLACEMENTS[split], network.optimizer()
    mesh = placements.mesh_of(placement, mode)
    with jax.set_mesh(mesh):
        params = network.pretrained()
        where = placements.shardings(mesh, placements.specs(placement, params))
        params = jax.device_put(params, where)
        init = {"eager": tx.init, "jit": jax.jit(tx.init)}[how]
        return misplaced(init(params), jax.tree.leaves(where), mesh)


def of_map_params(split):
    """What lies elsewhere than the specs that `tree.map_params` made say."""
    placement, tx = PLACEMENTS[split], network.optimizer()
    mesh, params = placements.mesh_of(placement), network.pretrained()
    specs = placements.specs(placement, params)
    state_specs = placements.state_specs(tx, params, specs)
    where, state_where = (placements.shardings(mesh, s) for s in (specs, state_specs))
    state = jax.device_put(tx.init(params), state_where)
    return misplaced(state, jax.tree.leaves(where), mesh)


def of_anchor(mode, source):
    """What lies elsewhere than it should; `source` says where the anchor is from."""
    placement = PLACEMENTS["rows"]
    mesh = placements.mesh_of(placement, mode)
    on_host = jax.tree.map(np.asarray, network.pretrained())
    with jax.set_mesh(mesh):
        where = placements.shardings(mesh, placements.specs(placement, on_host))
        params = jax.device_put(on_host, where)
        number, reset = network.optimizer(anchor=0.0).init, ftp_optax.reset_anchor
        state = {
            "number": lambda: number(params),
            "number, jit": lambda: jax.jit(number)(params),
            "reset": lambda: reset(network.optimizer().init(params), on_host),
            "reset, jit": lambda: jax.jit(reset)(
                network.optimizer().init(params), params
            ),
        }[source]()
        return misplaced(state, jax.tree.leaves(where), mesh)


class Mlp(nnx.Module):
    """Kernels in shards along rows and along columns, by their metadata."""

    def __init__(self, rngs):
        def initialised(names):
            return nnx.with_partitioning(nnx.initializers.lecun_normal(), names)

        rows, columns = map(initialised, ((None, "fsdp"), ("fsdp", None)))
        bias = nnx.with_partitioning(nnx.initializers.zeros, ("fsdp",))
        self.up = nnx.Linear(16, 32, kernel_init=rows, bias_init=bias, rngs=rngs)
        self.down = nnx.Linear(32, 16, kernel_init=columns, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.down(jnp.tanh(self.up(x)))


MLP_SPECS = [P("fsdp", None), P("fsdp"), P(None, "fsdp")]  # down, up's bias, up


def mlp_wheres(mesh):
    return [NamedSharding(mesh, spec) for spec in MLP_SPECS]


def of_nnx(how):
    """What `nnx.Optimizer` misplaces, made eagerly or under `nnx.jit`."""
    tx = network.optimizer()

    def make():
        model = Mlp(nnx.Rngs(0))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    mesh = placements.mesh_of(PLACEMENTS["rows"])
    with jax.set_mesh(mesh):
        model, optimizer = {"eager": make, "jit": nnx.jit(make)}[how]()
        params = jax.tree.leaves(nnx.state(model, nnx.Param))
        wheres = mlp_wheres(mesh)
        for leaf, where in zip(params, wheres, strict=True):
            assert leaf.sharding.is_equivalent_to(where, leaf.ndim)
        return misplaced(optimizer.opt_state, wheres, mesh)


class BoxedMlp(nn.Module):
    """`Mlp` in linen, its params in boxes that name the axes."""

    @nn.compact
    def __call__(self, x):
        def initialised(names):
            return nn.with_partitioning(nn.initializers.lecun_normal(), names)

        rows, columns = map(initialised, ((None, "fsdp"), ("fsdp", None)))
        bias = nn.with_partitioning(nn.initializers.zeros, ("fsdp",))
        x = jnp.tanh(nn.Dense(32, kernel_init=rows, bias_init=bias, name="up")(x))
        return nn.Dense(16, kernel_init=columns, use_bias=False, name="down")(x)


def start_linen():
    params = BoxedMlp().init(jax.random.key(0), jnp.zeros((1, 16)))["params"]
    return params, network.optimizer().init(params)


def partition_specs():
    """Of the whole optimizer state, as `nn.get_partition_spec` has them."""
    _, (_, state) = jax.eval_shape(start_linen)
    found = nn.get_partition_spec(state)
    return {field: jax.tree.leaves(tree) for field, tree in found._asdict().items()}


def of_linen(how):
    """What is misplaced where `nn.get_sharding` says where boxes go.

    "get_sharding" has it tell of the state too; "jit" of the params alone.
    """
    mesh = placements.mesh_of(PLACEMENTS["rows"])
    shardings = nn.get_sharding(jax.eval_shape(start_linen), mesh)
    params, state = jax.jit(start_linen, out_shardings=shardings)()
    if how == "jit":
        state = jax.jit(network.optimizer().init)(params)
    return misplaced(state, mlp_wheres(mesh), mesh)
