"""How params and batch lie on a mesh, and training under `jit` where they lie."""

from typing import NamedTuple

import jax
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ftp_optax
from devices import network

MODES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


class Placement(NamedTuple):
    """Where things lie. The first axis of the mesh splits the batch."""

    mesh: tuple[str, ...]
    params: dict[str, P]  # of `parent/kind`, such as "up/kernel"
    in_use: dict[str, P]  # the same within the products
    hidden: str | None = None  # the axis of the mesh that splits hidden units
    model: int = 1  # how many devices share a part of the batch


TENSOR = {
    "query/kernel": P(None, "model", None),
    "out/kernel": P("model", None, None),
    "up/kernel": P(None, "model"),
    "up/bias": P("model"),
    "down/kernel": P("model", None),
    "down/bias": P(None),
    "last/bias": P(None),
}
REPLICATED = {name: P(*(None for _ in spec)) for name, spec in TENSOR.items()}
ROWS = {
    "query/kernel": P(None, "fsdp", None),
    "out/kernel": P(None, None, "fsdp"),
    "up/kernel": P(None, "fsdp"),
    "up/bias": P("fsdp"),
    "down/kernel": P(None, "fsdp"),
    "down/bias": P("fsdp"),
    "last/bias": P("fsdp"),
}
COLUMNS = {name: P("fsdp", *spec[1:]) for name, spec in REPLICATED.items()}
SPLIT_TWICE = TENSOR | {
    "query/kernel": P("data", "model", None),
    "out/kernel": P("model", None, "data"),
    "up/kernel": P("data", "model"),
    "down/kernel": P("model", "data"),
}

OVER_BOTH = {
    name: P(*(axis and ("data", "model") for axis in spec))
    for name, spec in ROWS.items()
}

PLACEMENTS = {
    "data parallel": Placement(("data",), REPLICATED, REPLICATED),
    "rows": Placement(("fsdp",), ROWS, REPLICATED),
    "columns": Placement(("fsdp",), COLUMNS, REPLICATED),
    "tensor": Placement(("data", "model"), TENSOR, TENSOR, "model", 2),
    "tensor and rows or columns": Placement(
        ("data", "model"), SPLIT_TWICE, TENSOR, "model", 4
    ),
    "rows over both axes": Placement(("data", "model"), OVER_BOTH, REPLICATED, None, 2),
}


def mesh_of(placement, mode="auto"):
    """A mesh over all the devices there are."""
    sizes = (jax.device_count() // placement.model, placement.model)
    kinds = (MODES[mode],) * len(placement.mesh)
    return jax.make_mesh(sizes[: len(kinds)], placement.mesh, axis_types=kinds)


def spec_of(placement, path, layers=None):
    """The spec of a leaf; `layers` is the axis of the mesh that splits a stack."""
    spec = placement.params["/".join(path.split("/")[-2:])]
    if not path.startswith("blocks/"):
        return P(*(None for _ in spec)) if layers else spec
    return P(layers, *(None for _ in spec)) if layers else P(None, *spec)


def specs(placement, params, layers=None):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: spec_of(placement, network.name_of(path), layers), params
    )


def state_specs(tx, params, specs):
    """Those of the params for what belongs to a param, and replication for the rest."""
    state = jax.eval_shape(tx.init, params)
    return optax.tree.map_params(
        tx,
        lambda x, spec: x if isinstance(x, optax.MaskedNode) else spec,
        state,
        specs,
        transform_non_params=lambda _: P(),
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )


def shardings(mesh, specs):
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def in_shards(tree, mesh, specs):
    """The arrays as the specs say, each in the memory in which it is."""
    return jax.tree.map(
        lambda x, where: jax.device_put(
            x, where.with_memory_kind(x.sharding.memory_kind)
        ),
        tree,
        shardings(mesh, specs),
    )


def misplaced(state, wheres, mesh, host=False):
    """{field and number of the leaf: sharding} of what lies elsewhere than it should.

    `wheres` are the shardings of the params in tree order, for anchor and displacement;
    the rest has to be replicated. `host`: the anchor has to be in the host's memory.
    """
    everywhere = NamedSharding(mesh, P())
    is_ftp = lambda node: isinstance(node, ftp_optax.FTPState)
    (found,) = filter(is_ftp, jax.tree.leaves(state, is_leaf=is_ftp))
    wrong = {}
    for field, tree in found._asdict().items():
        leaves = jax.tree.leaves(tree)
        if field == "anchor" and not leaves:
            continue  # it is implicit
        assert leaves
        of_params = field in ("anchor", "displacement")
        expected = wheres if of_params else [everywhere] * len(leaves)
        memory = "pinned_host" if host and field == "anchor" else "device"
        for i, (leaf, where) in enumerate(zip(leaves, expected, strict=True)):
            where = where.with_memory_kind(memory)
            if not leaf.sharding.is_equivalent_to(where, leaf.ndim):
                wrong[f"{field} {i}"] = str(leaf.sharding)
    return wrong


def batch_sharding(placement, mesh):
    return NamedSharding(mesh, P(placement.mesh[0], None))


def loss_of(placement, mode, layers=None):
    """The loss; with explicit axes it says where weights and activations lie."""
    if mode == "auto":
        return network.loss

    def use(name, leaf):
        return jax.reshard(leaf, placement.in_use[name])

    def lies(hidden, ndim):
        split = placement.hidden if hidden else None
        return P(placement.mesh[0], split, *(None for _ in range(2, ndim)))

    def loss(params, batch):
        if layers:
            # A loop cannot run over an axis whose steps lie on several devices.
            params = jax.tree.map(lambda w: jax.reshard(w, P()), params)
        return network.loss(params, batch, use, lies)

    return loss


def arranged(name, mode="auto", stacked=False, layers=None, option="default"):
    """Step, params, state and batch at the start, where they belong.

    To be used, with explicit axes, within `jax.set_mesh` of the same mesh.
    """
    placement, tx = PLACEMENTS[name], network.optimizer(option)
    mesh = mesh_of(placement, mode)
    params = network.pretrained(stacked)
    params = jax.device_put(params, shardings(mesh, specs(placement, params, layers)))
    batch = jax.device_put(network.batch(), batch_sharding(placement, mesh))
    gradient = jax.grad(loss_of(placement, mode, layers))
    step = jax.jit(network.step_of(tx, gradient), donate_argnums=(0, 1))
    return step, params, tx.init(params), batch


def train(
    name, mode, stacked=False, layers=None, option="default", steps=network.STEPS
):
    """Params and radii after training where the placement puts them, and leaves them.

    So does it with the state: anchor and displacement as the params, the rest all over.
    """
    mesh = mesh_of(PLACEMENTS[name], mode)
    with jax.set_mesh(mesh):
        step, params, state, batch = arranged(name, mode, stacked, layers, option)
        wheres = [w.sharding for w in jax.tree.leaves(params)]
        params, state = network.train(step, params, state, batch, steps)
        for leaf, where in zip(jax.tree.leaves(params), wheres, strict=True):
            assert leaf.sharding.is_equivalent_to(where, leaf.ndim), leaf.sharding
        assert misplaced(state, wheres, mesh, option == "host anchor") == {}
        ftp_optax.check_anchor(state, params)
        return network.result(params, state)
