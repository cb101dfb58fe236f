"""Directional Gradient Projection (DiGraP).

Huang, Tian, Maneechotesuwan, Chopra, Kira, *Directional Gradient Projection for Robust
Fine-Tuning of Foundation Models*, ICLR 2025, https://arxiv.org/abs/2502.15895.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ftp_optax import _anchor, _axes, _checks, _devices, _leaves, _projection, _radii


class DiGraPState(NamedTuple):
    """State of `digrap`.

    Attributes:
      anchor: W0, the tree of the params, in their dtypes; `optax.MaskedNode` for leaves
        that are left alone.
      omega: shape (R,), float32, in [0, 1]: the projection strength of each leaf, or
        layer of a stacked leaf, in tree order.
      omega_state: state of the optimizer that trains `omega`.
      projection: the tree of the params: what a full projection would have taken from
        the last gradient, in float32 or wider; zeros at first.
      step: shape (), int32: the number of updates so far.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import digrap
      >>> print(digrap().init({"w": jnp.ones(2)}).omega)
      [0.]
    """

    anchor: optax.Params
    omega: jax.Array
    omega_state: optax.OptState
    projection: optax.Params
    step: jax.Array


def digrap(
    *,
    omega_optimizer: optax.GradientTransformation | None = None,
    initial_omega: jax.typing.ArrayLike = 0.0,
    axes: _axes.Axes = None,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    anchor: _anchor.Anchor = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Takes from each gradient the part that leads away from the pre-trained weights.

    Placed before the optimizer, `optax.chain(digrap(), optax.adamw(1e-4))`. For a leaf
    (layer) with gradient :math:`g` and :math:`D = W - W_0`,

    .. math::

        p &= \frac{\langle g, D \rangle}{\|D\|^2} D
             \text{ where } \langle g, D \rangle < 0, \text{ else } 0 \\
        h &= \langle g, p^{prev} \rangle, \qquad
        \omega \leftarrow \mathrm{clip}(\omega + \mathrm{opt}(h), 0, 1) \\
        g &\leftarrow g - \omega\, p

    :math:`h` has the sign of the derivative of the loss with respect to
    :math:`\omega` through the previous step of gradient descent.

    .. note::
      The paper disagrees with itself on when to project. The gradients of the loss and
      of the distance :math:`\tfrac12\|D\|^2` conflict where
      :math:`\langle g, D \rangle < 0`: descent on the loss then increases the
      distance, and the paper's figure projects there. Its printed algorithm projects in
      the other case, where descent leads back to the anchor. This is the form of the
      figure: with :math:`\omega = 1` no step of gradient descent has a component away
      from the anchor.

    Args:
      omega_optimizer: optax transformation that trains the (R,) vector of strengths.
        `None` is `optax.adam(1e-2)`.
      initial_omega: every strength before the first step, in [0, 1]; 0 is published.
      axes: the meaning of each leaf's axes, as in `ftp`; only its layers matter here.
      exclude: one regular expression or several, as in `ftp`.
      mask: pytree of bool or a callable that makes one, as in `ftp`.
      anchor: `None` or a number, as in `ftp`.

    Returns:
      A `GradientTransformationExtraArgs` with state `DiGraPState`.

    Raises:
      TypeError, ValueError: arguments, params, gradients or a state that do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import digrap
      >>> tx = digrap(initial_omega=1.0)
      >>> pretrained, params = {"w": jnp.zeros(2)}, {"w": jnp.asarray([1.0, 0.0])}
      >>> away = {"w": jnp.asarray([-1.0, 1.0])}
      >>> updates, _ = tx.update(away, tx.init(pretrained), params)
      >>> print(updates["w"])
      [0. 1.]

    References:
      Huang et al., `Directional Gradient Projection for Robust Fine-Tuning of
      Foundation Models <https://arxiv.org/abs/2502.15895>`_, ICLR 2025
    """
    scope = _anchor.Scope(axes, exclude, mask, anchor)
    scope.check()
    _checks.scalar("initial_omega", initial_omega, 0.0, 1.0, "a number in [0, 1]")
    optimizer = _radii.guarded("omega_optimizer", omega_optimizer)

    def init_fn(params: optax.Params) -> DiGraPState:
        leaves = scope.select(params)
        omega = jnp.full((leaves.num_radii,), initial_omega, dtype=jnp.float32)
        return DiGraPState(
            anchor=scope.tree(leaves),
            omega=omega,
            omega_state=optimizer.init(omega),
            projection=leaves.tree(list(map(_devices.zeros_like, leaves.w()))),
            step=jnp.zeros([], jnp.int32),
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,  # DiGraPState; to optax's types every state is a tree of arrays
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, DiGraPState]:
        leaves = scope.select(params)
        _checks.state_type(state, DiGraPState)
        w, geometries = leaves.w(), leaves.geometries
        w0 = scope.w0(leaves, state.anchor)
        g = leaves.read("updates", updates)
        p_prev = leaves.read_state("projection", state.projection)
        omega = leaves.read_vector("omega", state.omega)

        h, p = [], []
        for i, geometry in enumerate(geometries):
            _projection.refuse_unknown_shards(w[i], geometry)
            layer = _projection.beside_layers(geometry)
            h.append(jnp.sum(g[i] * p_prev[i], axis=layer))
            # After h, which reads the donated p_prev: see `ftp`.
            first = h[i].reshape(geometry.radius_shape)
            p.append(_outward(_projection.after(g[i], first), w[i] - w0[i], geometry))

        omega_step, omega_state = optimizer.update(
            _radii.join(h), state.omega_state, omega, **extra_args
        )
        omega = jnp.clip(jnp.asarray(optax.apply_updates(omega, omega_step)), 0, 1)
        strengths = _radii.split(omega, geometries)
        new = [
            g_i - s.astype(g_i.dtype) * p_i
            for g_i, s, p_i in zip(g, strengths, p, strict=True)
        ]
        return leaves.write(new, updates), DiGraPState(
            anchor=state.anchor,
            omega=omega,
            omega_state=omega_state,
            projection=_projection.stored(p, geometries, state.projection, "mars"),
            step=jnp.asarray(optax.safe_increment(state.step)),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _outward(g: jax.Array, d: jax.Array, geometry: Any) -> jax.Array:
    """The part of `g` along `d`, where descent on `g` leads away; else 0."""
    others = _projection.beside_layers(geometry)
    inner = jnp.sum(g * d, axis=others, keepdims=True)
    square = jnp.sum(jnp.square(d), axis=others, keepdims=True)
    share = inner / jnp.where(square > 0, square, jnp.ones_like(square))
    # A gradient that is not finite passes, for what stands behind to handle.
    passes = (inner < 0) & jnp.isfinite(share)
    return jnp.where(passes, share, jnp.zeros_like(share)) * d
