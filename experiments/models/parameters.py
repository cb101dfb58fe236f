"""The parameters and statistics of a model, by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import nnx

ONES = ("scale", "var")  # of norms
TABLES = ("pos_embed", "cls")


def names_and_leaves(model: nnx.Module) -> dict[str, Any]:
    """All arrays of the model, by names such as `backbone/layer1/0/conv1/kernel`."""
    values = nnx.to_pure_dict(nnx.state(model))
    return {_name(keys): leaf for keys, leaf in jax.tree.leaves_with_path(values)}


def replace(model: nnx.Module, value_of: Callable[[str, Any], Any]) -> None:
    """Puts `value_of(name, leaf)` in place of every array of the model."""
    state = nnx.state(model)
    values = nnx.to_pure_dict(state)
    new = jax.tree.map_with_path(
        lambda keys, leaf: jnp.asarray(value_of(_name(keys), leaf), leaf.dtype), values
    )
    nnx.replace_by_pure_dict(state, new)
    nnx.update(model, state)


def _name(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def drawn(make: Callable[[], nnx.Module], seed: Any) -> Any:
    """The model that `make` describes, its weights drawn by numpy: nothing compiles.

    Kernels are uniform with the variance of one over the fan-in, and position tables
    within 0.02; norms are the identity; biases and the head are zero.

    Args:
      make: returns the model; only its shapes matter, it is traced.
      seed: as `numpy.random.default_rng` takes it.
    """
    random = np.random.default_rng(seed)

    def value(name: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        last = name.split("/")[-1]
        if last in ONES:
            return np.ones(leaf.shape, np.float32)
        if name.startswith("head/") or last not in ("kernel", *TABLES):
            return np.zeros(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        bound = 0.02 if last in TABLES else np.sqrt(3 / fan_in)
        return bound * (2 * random.random(leaf.shape, np.float32) - 1)

    model = nnx.eval_shape(make)
    replace(model, value)
    return model


def layer_names(model: Any) -> tuple[str, ...]:
    """Names of all parameters in the order in which the forward pass reads them.

    The names are those of `ftp_optax`: `backbone/layer1/0/conv1/kernel`. The order is
    read off the traced computation, so it holds for any network.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    side = getattr(model.backbone, "image_size", 64)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)

    def forward(params: Any, rest: Any, images: jax.Array) -> jax.Array:
        network: Any = nnx.merge(graphdef, params, rest)
        return network(images, train=False)

    jaxpr = jax.make_jaxpr(forward)(params, rest, images).jaxpr
    first_read = {}
    for position, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if isinstance(variable, jax.extend.core.Var):  # and no literal
                first_read.setdefault(variable, position)
    flat = jax.tree.leaves_with_path(nnx.to_pure_dict(params))
    names = [_name(keys) for keys, _ in flat]
    # Those that are not read, if any, come last.
    order = [first_read.get(v, len(jaxpr.eqns)) for v in jaxpr.invars[: len(names)]]
    return tuple(name for _, name in sorted(zip(order, names, strict=True)))
