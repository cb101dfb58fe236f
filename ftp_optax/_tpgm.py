"""Trainable Projected Gradient Method (TPGM): radii from held-out batches.

Tian, Dai, Ma, He, Liu, Kira, *Trainable Projected Gradient Method for Robust
Fine-Tuning*, CVPR 2023, https://arxiv.org/abs/2303.10720.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _axes, _checks, _leaves, _projection, _radii


class TPGMState(NamedTuple):
    """State of `tpgm`.

    Attributes:
      anchor: W0, the tree of the params, in their dtypes; `optax.MaskedNode` for leaves
        that are left alone.
      radii: gamma, shape (R,), float32: one radius per constrained leaf, or per layer
        of a stacked leaf, in tree order. 0 until the first update sets it.
      radius_state: state of the optimizer that trains `radii`, and of its guard.
      geometry: shape (L, 3), int32, as in `FTPState`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import tpgm
      >>> print(tpgm().init({"w": jnp.ones(2)}).radii)
      [0.]
    """

    anchor: optax.Params
    radii: jax.Array
    radius_state: optax.OptState
    geometry: jax.Array


class TPGM(NamedTuple):
    """The functions that `tpgm` returns; they close over its arguments alone.

    Attributes:
      init: `init(pretrained) -> TPGMState`.
      update: `update(state, params, value_fn) -> TPGMState`, one step of the radii.
        `value_fn(projected_params)` is the loss on held-out data.
      project: `project(params, state) -> params`, within the radii.
      fit: `fit(state, params, value_fn, batches) -> TPGMState`, one `update` for each
        batch along the leading axis of `batches`, compiled as a loop;
        `value_fn(projected_params, batch)`.

    Examples:
      >>> from ftp_optax import tpgm
      >>> tpgm()._fields
      ('init', 'update', 'project', 'fit')
    """

    init: Callable[[optax.Params], TPGMState]
    update: Callable[[TPGMState, optax.Params, Callable[[Any], jax.Array]], TPGMState]
    project: Callable[[optax.Params, TPGMState], optax.Params]
    fit: Callable[
        [TPGMState, optax.Params, Callable[[Any, Any], jax.Array], Any], TPGMState
    ]


def tpgm(
    *,
    radius_optimizer: optax.GradientTransformation | None = None,
    norm: _projection.Norm = "mars",
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> TPGM:
    r"""Projection radii trained on held-out data: the forerunner of FTP.

    The projection is FTP's; the radii follow the gradient of a second loss, which costs
    a forward and a backward pass through the projected model at every step:

    .. math::

        W(\gamma)_r &= W_{0,r} + \min(\gamma / n_r, 1)\, (W_r - W_{0,r}), \qquad
            n_r = \|W_r - W_{0,r}\|_1 + 10^{-8} \\
        \gamma &\leftarrow \mathrm{clip}\bigl(\gamma, 10^{-8}, \max_r n_r\bigr)
            + \mathrm{opt}\bigl(\mathrm{d}L_{val}(W(\gamma)) / \mathrm{d}\gamma\bigr)

    :math:`\gamma` starts at half the smallest row norm of the first update. Use it in
    training, after each step of the optimizer::

        state = method.update(state, params, lambda p: loss(p, held_out_batch))
        params = method.project(params, state)

    or once, after training: `fit` over some hundred batches, then `project`. It is not
    a gradient transformation, since it needs the loss as a function. `value_fn` decides
    on batch statistics, dropout and the like; the published code evaluates in inference
    mode.

    Args:
      radius_optimizer: optax transformation that trains the (R,) vector of radii.
        `None` is `optax.adam(1e-2)`.
      norm: "mars", the L1 norm of each row; or "frobenius", the L2 norm of the whole
        leaf (layer), which then counts as one row.
      axes: the meaning of each leaf's axes, as in `ftp`.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`.

    Returns:
      A `TPGM` of pure functions.

    Raises:
      TypeError, ValueError: arguments, params or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import tpgm
      >>> pretrained, params = {"w": jnp.zeros(4)}, {"w": jnp.ones(4)}
      >>> method = tpgm()
      >>> state = method.init(pretrained)
      >>> held_out = lambda p: jnp.sum((p["w"] - 0.3) ** 2)
      >>> state = method.update(state, params, held_out)
      >>> print(f"{method.project(params, state)['w'][0]:.4f}")
      0.4975

    References:
      Tian et al., `Trainable Projected Gradient Method for Robust Fine-Tuning
      <https://arxiv.org/abs/2303.10720>`_, CVPR 2023
    """
    scope = _anchor.Scope(axes, exclude, mask, anchor)
    scope.check()
    _checks.choice("norm", norm, _projection.NORMS)
    optimizer = _radii.guarded("radius_optimizer", radius_optimizer)

    def init(pretrained: optax.Params) -> TPGMState:
        leaves = scope.select(pretrained)
        radii = jnp.zeros((leaves.num_radii,), jnp.float32)
        return TPGMState(
            anchor=scope.tree(leaves),
            radii=radii,
            radius_state=optimizer.init(radii),
            geometry=_projection.described(leaves.geometries, norm),
        )

    def displaced(state: TPGMState, params: optax.Params) -> _Displaced:
        leaves = scope.select(params)
        _checks.state_type(state, TPGMState)
        w0 = scope.w0(leaves, state.anchor)
        leaves.read_vector("radii", state.radii)
        c = [w - w0_i for w, w0_i in zip(leaves.w(), w0, strict=True)]
        norms = functools.partial(_projection.norms, norm=norm)
        return _Displaced(leaves, w0, c, list(map(norms, c, leaves.geometries)))

    def update(
        state: TPGMState, params: optax.Params, value_fn: Callable[[Any], jax.Array]
    ) -> TPGMState:
        at = displaced(state, params)
        radii = _bounded(state.radii, at)
        h = jax.grad(lambda gamma: value_fn(_within(gamma, at, params)))(radii)
        step, radius_state = optimizer.update(h, state.radius_state, radii)
        radii = jnp.asarray(optax.apply_updates(radii, step))
        # A radius that Adam took below 0 is kept above it: 0 means not yet set.
        radii = jnp.maximum(radii, _projection.EPS)
        return state._replace(radii=radii, radius_state=radius_state)

    def project(params: optax.Params, state: TPGMState) -> optax.Params:
        at = displaced(state, params)
        return _within(_bounded(state.radii, at), at, params)

    def fit(
        state: TPGMState,
        params: optax.Params,
        value_fn: Callable[[Any, Any], jax.Array],
        batches: Any,
    ) -> TPGMState:
        def body(state: TPGMState, batch: Any) -> tuple[TPGMState, None]:
            return update(state, params, lambda p: value_fn(p, batch)), None

        return jax.lax.scan(body, state, batches)[0]

    return TPGM(init, update, project, fit)


class _Displaced(NamedTuple):
    """How the constrained leaves lie to their anchor, as lists in tree order."""

    leaves: _leaves.Leaves
    w0: list[jax.Array]
    c: list[jax.Array]
    norms: list[jax.Array]


def _bounded(radii: jax.Array, at: _Displaced) -> jax.Array:
    """The radii within [1e-8, largest row]; those not yet set, at their start."""
    geometries = at.leaves.geometries
    n_max = _radii.join(list(map(_projection.largest, at.norms, geometries)))
    n_min = _radii.join(list(map(_projection.smallest, at.norms, geometries)))
    return jnp.clip(jnp.where(radii > 0, radii, n_min / 2), _projection.EPS, n_max)


def _within(radii: jax.Array, at: _Displaced, params: optax.Params) -> optax.Params:
    """The params, projected onto the radii."""
    gamma = _radii.split(radii, at.leaves.geometries)
    n = [size + _projection.EPS for size in at.norms]
    projected = list(map(_projection.project, at.c, at.w0, gamma, n))
    return at.leaves.write(projected, params)
