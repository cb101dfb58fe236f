"""The anchor: copies of the pre-trained weights, and methods that keep nothing else."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import _axes, _checks, _devices, _leaves, _paths, _wrapper
from ftp_optax._axes import Geometry
from ftp_optax._leaves import Leaves

Anchor = jax.typing.ArrayLike | None
IMPLICIT = "implicit"
Implicit = Literal["implicit"]  # for ftp alone
Memory = Literal["pinned_host"] | None  # None: beside the params
MEMORIES: tuple[Memory, ...] = (None, "pinned_host")


class Scope(NamedTuple):
    """Which leaves a method constrains, how it sees them, and to what it ties them."""

    axes: _axes.Axes = None
    exclude: _leaves.Exclude = None
    mask: _leaves.Mask = None
    anchor: Anchor | Implicit = None
    anchor_memory: Memory = None
    specs: _axes.Specs = None
    may_be_implicit: bool = False

    @property
    def implicit(self) -> bool:
        return isinstance(self.anchor, str) and self.anchor == IMPLICIT

    def check(self) -> None:
        _paths.patterns("exclude", self.exclude)
        is_word = self.implicit and self.may_be_implicit
        if not (self.anchor is None or is_word or _is_number(self.anchor)):
            word = f", or {IMPLICIT!r}" if self.may_be_implicit else ""
            given = self.anchor if isinstance(self.anchor, str) else type(self.anchor)
            raise TypeError(
                f"anchor: expected None or a number{word}; got {given!r}. Other weights"
                " than those given to init are taken by"
                " reset_anchor(tx.init(params), pretrained)."
            )
        _checks.choice("anchor_memory", self.anchor_memory, MEMORIES)

    def select(self, params: optax.Params | None) -> Leaves:
        return _leaves.select(params, self.axes, self.exclude, self.mask, self.specs)

    def tree(self, leaves: Leaves) -> optax.Params:
        """The anchor of these params, new arrays that alias nothing."""
        params = [leaves.params[i] for i in leaves.chosen]
        if self.implicit:
            return leaves.tree([optax.MaskedNode()] * len(params))
        if self.anchor is not None:
            number: Any = self.anchor
            full = [jnp.full_like(p, number) for p in params]
            params = list(map(_devices.placed_like, full, params))
        # jnp.array copies, where asarray, astype and device_put may alias.
        copies = [jnp.array(p) for p in params]
        if self.anchor_memory is not None:
            copies = list(map(_devices.to_host, copies))
        return leaves.tree(copies)

    def w0(self, leaves: Leaves, anchor: optax.Params) -> list[jax.Array]:
        """The anchor of a state, in the dtype of the arithmetic and on the devices."""
        return leaves.read_state("anchor", jax.tree.map(_devices.to_device, anchor))


def replaced(name: str, old: jax.Array, new: Any) -> jax.Array:
    """A copy of `new` where `old` was: its dtype, sharding and memory.

    Raises:
      ValueError: the dtype would round it.
    """
    given = jnp.result_type(new)
    if jnp.promote_types(given, old.dtype) != old.dtype:
        exact = not isinstance(new, Tracer) and bool(
            jnp.array_equal(jnp.asarray(new, old.dtype).astype(given), new)
        )
        if not exact:
            raise ValueError(
                f"params: the leaf {name!r} has dtype {given}, and the anchor keeps"
                f" {old.dtype}, which would round it by as much as the first radii."
                f" Expected {old.dtype}, or a state that init made of {given} params."
            )
    copy = jnp.array(_devices.placed_like(new, old), dtype=old.dtype)
    return _devices.to_host(copy) if _devices.on_host(old) else copy


def _is_number(value: Any) -> bool:
    # `optax.inject_hyperparams` makes a 0-d array of every number.
    return isinstance(value, int | float) or (
        isinstance(value, jax.Array | np.ndarray | np.generic) and value.ndim == 0
    )


# ---- Methods that keep an anchor and learn nothing beside it -----------------------


class AnchorState(NamedTuple):
    """State of the methods that keep an anchor and learn nothing beside it.

    Attributes:
      anchor: W0, like the params, in their dtypes; `optax.MaskedNode` for excluded
        leaves. Copies that can be donated.
      step: shape (), int32: the number of updates so far, for schedules.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import l2_sp
      >>> state = l2_sp(0.1).init({"w": jnp.ones(2)})
      >>> print(state.anchor["w"], state.step)
      [1. 1.] 0
    """

    anchor: optax.Params
    step: jax.Array


class Leaf(NamedTuple):
    """One constrained leaf; arrays of its shape, in the dtype of the arithmetic."""

    geometry: Geometry
    w: jax.Array  # the current parameter
    w0: jax.Array  # its anchor
    u: jax.Array  # the incoming update
    g: jax.Array  # the raw gradient at w


def value_at(value: Any, step: jax.Array) -> Any:
    """A hyper-parameter, or what its schedule gives for this step."""
    return value(step) if callable(value) else value


def pulled(u: jax.Array, weight: Any, pull: jax.Array) -> jax.Array:
    """`u + weight * pull`; `u` itself, signs of zeros and all, where `weight` is 0."""
    weight = jnp.asarray(weight).astype(u.dtype)
    return jnp.where(weight == 0, u, u + weight * pull)


def transformation(
    scope: Scope,
    new_updates: Callable[[list[Leaf], Leaves, jax.Array], list[jax.Array]],
    choose_gradient: _wrapper.Choose = lambda grad, updates: None,
) -> optax.GradientTransformationExtraArgs:
    """A transformation with an `AnchorState`, made of what it does to its leaves.

    Args:
      scope: which leaves, and their anchor.
      new_updates: of the constrained leaves; it is told the step as well.
      choose_gradient: for a link behind an optimizer, what it uses of `grad`.
    """
    scope.check()

    def init_fn(params: optax.Params) -> AnchorState:
        return AnchorState(scope.tree(scope.select(params)), jnp.zeros([], jnp.int32))

    def update_fn(
        updates: optax.Updates,
        state: Any,  # AnchorState; to optax's types every state is a tree of arrays
        params: optax.Params | None = None,
        *,
        grad: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, AnchorState]:
        del extra_args
        leaves = scope.select(params)
        _checks.state_type(state, AnchorState)
        w0 = scope.w0(leaves, state.anchor)
        u = leaves.read("updates", updates)
        grad = choose_gradient(grad, updates)
        g = [-u_i for u_i in u] if grad is None else leaves.read("grad", grad)
        each = list(map(Leaf, leaves.geometries, leaves.w(), w0, u, g))
        updates = leaves.write(new_updates(each, leaves, state.step), updates)
        next_step = jnp.asarray(optax.safe_increment(state.step))
        return updates, AnchorState(state.anchor, next_step)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
