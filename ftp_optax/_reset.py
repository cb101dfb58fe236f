"""Taking a new anchor, in any optimizer state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _axes, _checks, _devices, _paths, _states
from ftp_optax._digrap import DiGraPState
from ftp_optax._ftp import FTPState
from ftp_optax._tpgm import TPGMState


def reset_anchor(
    state: optax.OptState,
    params: optax.Params,
    *,
    axes: _axes.Axes = None,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
) -> optax.OptState:
    """Takes `params` for the new anchor, and leaves the base optimizer as it is.

    For the next task of a sequence, and for weights that were loaded after `init`.
    FTP's radii and the state of their optimizer become what `init` makes of `params`;
    of an `AnchorState` only the anchor changes.

    Args:
      state: any optimizer state that holds an `FTPState` or an `AnchorState`.
      params: the new anchor, copied; same tree and shapes as before.
      axes: as given to `ftp`; needed only if it names stacked layers.
      radius_optimizer: as given to `ftp`.
      initial_radius: as given to `ftp`.

    Returns:
      A state of the same structure, shapes and dtypes.

    Raises:
      ValueError: as `radii` does; `radius_optimizer` is not the one that made the
        state; the state keeps its anchor in a dtype that would round `params`; or there
        is one of `digrap` or `tpgm`, which take a new anchor from `init` alone.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import reset_anchor, with_ftp
      >>> tx = with_ftp(optax.adamw(1e-4))
      >>> state = tx.init({"kernel": jnp.zeros((2, 3))})
      >>> loaded = {"kernel": jnp.ones((2, 3))}
      >>> state = reset_anchor(state, loaded)
      >>> print(optax.tree.get(state, "anchor")["kernel"][0])
      [1. 1. 1.]
    """
    if radius_optimizer is None:
        radius_optimizer = optax.adam(1e-2)
    _checks.transformation("radius_optimizer", radius_optimizer)
    _checks.scalar("initial_radius", initial_radius, 0.0, jnp.inf, "a number >= 0")

    def reset(node: Any) -> Any:
        if isinstance(node, DiGraPState | TPGMState):
            raise ValueError(
                f"state: it holds a {type(node).__name__}, and what that has learned"
                " belongs to the old anchor. Call init of its transformation."
            )
        if isinstance(node, FTPState):
            _states.radii_of(node, params, axes)  # refuses other axes
            return node._replace(
                anchor=_new_anchor(node.anchor, params),
                **_new_radii(node, radius_optimizer, initial_radius),
                displacement=jax.tree.map(_devices.zeros_like, node.displacement),
            )
        return node._replace(anchor=_new_anchor(node.anchor, params))

    return _states.map_states(reset, state)


def _new_anchor(anchor: Any, params: optax.Params) -> Any:
    """Copies of the params in the places, and the dtypes, of the anchor's leaves."""
    _checks.refuse_dropped(jax.tree.leaves(anchor))
    current = _states.belonging(anchor, params)
    names, leaves, treedef = _paths.flatten_with_names(anchor)
    copies = []
    for name, leaf in zip(names, leaves, strict=True):
        copy = _anchor.copied(name, current[name], None, leaf.dtype, like=leaf)
        copies.append(_devices.to_host(copy) if _devices.on_host(leaf) else copy)
    return jax.tree.unflatten(treedef, copies)


def _new_radii(
    state: FTPState,
    radius_optimizer: optax.GradientTransformation,
    initial_radius: jax.typing.ArrayLike,
) -> dict[str, Any]:
    """The fields `radii` and `radius_state` as `init` makes them."""
    vector = jnp.full_like(_states.vector(state), initial_radius)
    old, treedef = jax.tree.flatten(state.radius_state)
    new = jax.tree.leaves(radius_optimizer.init(vector))
    if list(map(jnp.shape, new)) != list(map(jnp.shape, old)):
        raise ValueError(
            "radius_optimizer: its state does not have the shapes of the one in"
            " `state`. Expected the transformation that was given to ftp."
        )
    return {
        "radii": jax.tree.map(lambda _: vector, state.radii),
        "radius_state": jax.tree.unflatten(treedef, new),
    }
