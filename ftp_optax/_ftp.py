"""Fast Trainable Projection (FTP).

Tian, Liu, Smith, Kira, *Fast Trainable Projection for Robust Fine-Tuning*, NeurIPS
2023, https://arxiv.org/abs/2310.19182. The constants and the order of operations are
those of the published implementation.
"""

import functools
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ftp_optax import (
    _anchor,
    _checks,
    _displacement,
    _gradient,
    _leaves,
    _projection,
    _radius,
    _selection,
)
from ftp_optax._axes import Axes, Specs


class FTPState(NamedTuple):
    """State of `ftp`.

    Every array is a buffer of its own and can be donated. Leaves that are left alone
    have an `optax.MaskedNode` in `anchor` and `displacement`.

    Attributes:
      anchor: W0, the tree of the params, in their dtypes or in `anchor_dtype`; nothing
        but `optax.MaskedNode` where it is implicit.
      radii: gamma, shape (R,), float32: one radius per constrained leaf, or per layer
        of a stacked leaf, in tree order. Units of the weights (sums of them for MARS).
      radius_state: state of the optimizer that trains `radii`.
      displacement: C, the tree of the params: the last step's displacement from the
        anchor before it was projected, in float32 or wider unless `displacement_dtype`
        says otherwise; zeros at first. In int8 the direction of each row.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import ftp
      >>> ftp().init({"w": jnp.ones(2)})._asdict().keys()
      dict_keys(['anchor', 'radii', 'radius_state', 'displacement'])
    """

    anchor: optax.Params
    radii: jax.Array
    radius_state: optax.OptState
    displacement: optax.Params


def ftp(
    kappa: jax.typing.ArrayLike = 1.0,
    *,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
    norm: _projection.Norm = "mars",
    hypergradient: _radius.Hypergradient = "published",
    gradient: _gradient.Source = None,
    axes: Axes = None,
    exclude: _selection.Exclude = None,
    mask: _selection.Mask = None,
    anchor: _anchor.Anchor = None,
    anchor_dtype: Any = None,
    anchor_memory: _anchor.Memory = None,
    displacement_dtype: Any = None,
    specs: Specs = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps each leaf within a trained radius of its pre-trained value.

    The last link of a chain, after everything that makes the optimizer's step.
    `with_ftp` is the recommended form: this link needs the raw gradient beside the
    step, which a chain does not hand on by itself.

    For a leaf :math:`W` with anchor :math:`W_0`, gradient :math:`g` at :math:`W` and
    incoming step :math:`u`, one update is

    .. math::

        C &= W + u - W_0, \qquad n_r = \|C_r\|_1 + 10^{-8} \text{ for each row } r \\
        h &= \sum_r \langle g_r, C^{prev}_r \rangle / n^{prev}_r \\
        h &\leftarrow \kappa h \text{ where } h > 0 \\
        \gamma &\leftarrow \mathrm{clip}(\gamma + \mathrm{opt}(h), 10^{-8}, \max_r n_r)
        \\
        W_r &\leftarrow W_{0,r} + \mathrm{clip}(\gamma / n_r, 0, 1)\, C_r

    :math:`h` is the derivative of the loss with respect to the radius through the
    previous step; opt is any optax transformation, Adam by default. At the first step
    :math:`h` is 0, so the constrained leaves stay at the anchor (to 1e-8).

    A gradient that is not finite moves no radius (:math:`h` is 0): the optimizer may
    have handled it.

    The raw gradient is the extra argument `grad` of `update`. Without it the reversed
    updates stand in: after plain SGD at a constant rate that is exact (up to Adam's
    epsilon), since Adam does not see a scale; after adamw it is the preconditioned
    gradient.

    Args:
      kappa: gradient annealing factor in [0, 1]. 1 trains the radius both ways and
        holds tightest; at 0 a radius never shrinks by its gradient. A number; schedule
        it with `optax.inject_hyperparams`, whose `static_args` then have to name `axes`
        and `mask` if these are callables.
      radius_optimizer: optax transformation that trains the (R,) vector of radii.
        `None` is `optax.adam(1e-2)`.
      initial_radius: every radius before the first step. `jnp.inf` leaves the first
        step unconstrained.
      norm: "mars", the L1 norm of each row; or "frobenius", the L2 norm of the whole
        leaf (layer), which then counts as one row.
      hypergradient: "published" sums over all rows; "active" over the rows that the
        projection shortened, which is the exact derivative.
      gradient: `None` uses `grad`, and warns when it has to do without; "updates"
        always uses the reversed updates, silently.
      axes: the meaning of each leaf's axes: one `LeafAxes`, a pytree of them (a prefix
        of the params, `None` leaves a leaf alone) or a callable of path and leaf.
        `None` is `flax_axes`.
      exclude: one regular expression or several, searched for (`re.search`) in paths
        such as `head/kernel`; the leaves they match take the incoming step unchanged.
      mask: pytree of bool, a prefix of the params, or a callable that makes one of
        the params; `False` leaves a leaf alone, as in `optax.masked`.
      anchor: `None` copies the params given to `init`; a pytree like the params (it
        may lack excluded leaves); a number, such as 0.0, for every weight; or
        "implicit", which keeps none: the params given to `init` are where the
        displacement leads back to, so nothing else may move the params, nor anyone
        edit `radii`, and they must be float32 or wider.
      anchor_dtype: floating-point dtype in which to keep the anchor. Refused where it
        would round a weight. `None` keeps the params' dtype.
      anchor_memory: "pinned_host" keeps the anchor in the host's page-locked memory and
        fetches it once a step (needs `jax.memory`); `None` keeps it beside the params.
        Donate params and state together and return them in the same order: jax may
        otherwise match a donated array with a result in the other memory, and abort.
      displacement_dtype: dtype in which to keep the displacement, of which only the
        direction is used again: a floating-point one, or int8, in units of each row's
        largest entry / 127. `None` is float32 or wider.
      specs: inside a `jax.shard_map` whose mesh axes shard the params: what it was
        given for them, so that norms are those of whole rows. One `PartitionSpec`, a
        pytree of them (a prefix of the params) or a callable of path and leaf. Not
        needed anywhere else. Without, a leaf that is split is refused, unless
        `check_vma=False` hides that it is: then norms are silently those of the shards.

    Returns:
      A `GradientTransformationExtraArgs` with state `FTPState`. Updates have the
      params' dtypes; arithmetic is in float32 or wider.

    Raises:
      TypeError, ValueError: arguments, params, gradients or a state that do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from ftp_optax import ftp
      >>> params = {"kernel": jnp.ones((2, 3))}
      >>> tx = optax.chain(optax.adamw(1e-1), ftp())
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     grads = jax.grad(lambda p: jnp.sum((p["kernel"] - 2.0) ** 2))(params)
      ...     updates, state = tx.update(grads, state, params, grad=grads)
      ...     params = optax.apply_updates(params, updates)
      >>> print(jnp.abs(params["kernel"] - 1.0).sum(axis=0).round(4))
      [0.016 0.016 0.016]

    References:
      Tian et al., `Fast Trainable Projection for Robust Fine-Tuning
      <https://arxiv.org/abs/2310.19182>`_, NeurIPS 2023
    """
    _checks.scalar("kappa", kappa, 0.0, 1.0, "a number in [0, 1]")
    _checks.scalar("initial_radius", initial_radius, 0.0, jnp.inf, "a number >= 0")
    _checks.choice("norm", norm, get_args(_projection.Norm))
    _checks.choice("hypergradient", hypergradient, get_args(_radius.Hypergradient))
    _checks.choice("gradient", gradient, (None, "updates"))
    _displacement.check_dtype(displacement_dtype)
    scope = _anchor.Scope(
        axes,
        exclude,
        mask,
        anchor,
        anchor_dtype,
        anchor_memory,
        specs,
        may_be_implicit=True,
    )
    scope.check()
    _refuse_combinations(scope, displacement_dtype, hypergradient)
    if radius_optimizer is None:
        radius_optimizer = optax.adam(1e-2)
    _checks.transformation("radius_optimizer", radius_optimizer)
    radius_optimizer = optax.with_extra_args_support(radius_optimizer)
    choose_gradient = _gradient.chooser("ftp", gradient)

    def init_fn(params: optax.Params) -> FTPState:
        chosen = scope.select(params)
        if scope.implicit:
            _refuse_narrow_params(chosen)
        radii = jnp.full((chosen.num_radii,), initial_radius, dtype=jnp.float32)
        return FTPState(
            anchor=scope.anchor_tree(chosen),
            radii=radii,
            radius_state=radius_optimizer.init(radii),
            displacement=chosen.tree(_displacement.zeros(chosen, displacement_dtype)),
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,  # FTPState; to optax's types every state is a tree of arrays
        params: optax.Params | None = None,
        *,
        grad: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, FTPState]:
        chosen = scope.select(params)
        _checks.state_type(state, FTPState)
        grad = choose_gradient(grad)
        anchor_now = scope.on_device(state.anchor)
        leaves = _leaves.gather(chosen, updates, anchor_now, grad)
        c_prev = _leaves.stored(chosen, "displacement", state.displacement)
        _checks.stored_vector("radii", state.radii, chosen)
        geometries = chosen.kept()
        row_norms = functools.partial(_projection.row_norms, norm=norm)

        # The derivative of the loss with respect to each radius, through the last step.
        n_prev = list(map(row_norms, c_prev, geometries))
        gamma_prev = _radius.split(state.radii, geometries)
        h_leaves = [
            _radius.radius_gradient(*of_leaf, norm, hypergradient)
            for of_leaf in zip(leaves, c_prev, n_prev, gamma_prev, strict=True)
        ]
        h = _radius.anneal(_radius.join(h_leaves), kappa)

        # Where the params are, seen from the anchor: the last step, as projected.
        if scope.implicit:
            _displacement.refuse_rounded(state.displacement)
            last = zip(gamma_prev, n_prev, c_prev, strict=True)
            d = [_projection.kept(gamma, n) * c for gamma, n, c in last]
        else:
            d = [leaf.w - leaf.w0 for leaf in leaves]

        # The unconstrained step of the optimizer.
        first = _radius.shaped(h_leaves, geometries)
        c = [
            d_leaf + _leaves.after(leaf.u, h_leaf)
            for d_leaf, leaf, h_leaf in zip(d, leaves, first, strict=True)
        ]
        n = list(map(row_norms, c, geometries))
        n_max = _radius.join(list(map(_projection.largest, n, geometries)))

        # One step of the radii. Beyond the largest row they would bind nothing.
        radius_step, radius_state = radius_optimizer.update(
            h, state.radius_state, state.radii, **extra_args
        )
        radii = jnp.asarray(optax.apply_updates(state.radii, radius_step))
        radii = jnp.clip(radii, _projection.EPS, n_max)

        # The projection, as the update that optax.apply_updates adds to the params.
        gamma = _radius.split(radii, geometries)
        if scope.implicit or scope.anchor_memory is not None:
            # Without W0, which is not there, or would have to be fetched once more.
            q = list(map(_projection.kept, gamma, n))
            steps = [
                leaf.u - (1.0 - q_leaf) * c_leaf
                for leaf, q_leaf, c_leaf in zip(leaves, q, c, strict=True)
            ]
            new = _leaves.merged(chosen, steps, updates)
        else:
            w0 = [leaf.w0 for leaf in leaves]
            projected = list(map(_projection.project, c, w0, gamma, n))
            new = _leaves.steps_to(chosen, projected, updates)
        return new, FTPState(
            anchor=state.anchor,
            radii=radii,
            radius_state=radius_state,
            displacement=_displacement.stored(c, geometries, state.displacement, norm),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def with_ftp(
    optimizer: optax.GradientTransformation,
    kappa: jax.typing.ArrayLike = 1.0,
    *,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
    norm: _projection.Norm = "mars",
    hypergradient: _radius.Hypergradient = "published",
    gradient: _gradient.Source = None,
    axes: Axes = None,
    exclude: _selection.Exclude = None,
    mask: _selection.Mask = None,
    anchor: _anchor.Anchor = None,
    anchor_dtype: Any = None,
    anchor_memory: _anchor.Memory = None,
    displacement_dtype: Any = None,
    specs: Specs = None,
) -> optax.GradientTransformationExtraArgs:
    """Any optimizer, kept within trained radii of the pre-trained weights.

    `chain(optimizer, ftp(...))` that hands the gradients it receives on as `grad`: it
    is exact in every loop that runs the optimizer. Whatever stands before it in a
    chain (clipping, say) acts on the gradient that trains the radii as well.

    Args:
      optimizer: what makes the unconstrained step, with its weight decay, momentum and
        schedules. Leaves that are left alone take its step bit for bit.
      kappa: gradient annealing factor in [0, 1]. This and all that follow are the
        arguments of `ftp`.

    Returns:
      A `GradientTransformationExtraArgs`; its state is the pair of the optimizer's
      state and the `FTPState`.

    Raises:
      TypeError, ValueError: as `ftp` does.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from ftp_optax import with_ftp
      >>> pretrained = {"kernel": jnp.ones((2, 3)), "head": jnp.zeros((3,))}
      >>> loss = lambda p: jnp.sum((p["kernel"].sum(0) + p["head"] - 5.0) ** 2)
      >>> tx = with_ftp(optax.adamw(1e-1), exclude="head")
      >>> params, state = pretrained, tx.init(pretrained)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jax.grad(loss)(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(jnp.abs(params["kernel"] - 1.0).sum(axis=0).round(4))
      [0.016 0.016 0.016]
      >>> print(params["head"].round(4))
      [0.2996 0.2996 0.2996]

    References:
      Tian et al., `Fast Trainable Projection for Robust Fine-Tuning
      <https://arxiv.org/abs/2310.19182>`_, NeurIPS 2023
    """
    link = ftp(
        kappa,
        radius_optimizer=radius_optimizer,
        initial_radius=initial_radius,
        norm=norm,
        hypergradient=hypergradient,
        gradient=gradient,
        axes=axes,
        exclude=exclude,
        mask=mask,
        anchor=anchor,
        anchor_dtype=anchor_dtype,
        anchor_memory=anchor_memory,
        displacement_dtype=displacement_dtype,
        specs=specs,
    )
    return _gradient.hand_on(optimizer, link)


def _refuse_combinations(
    scope: _anchor.Scope, displacement_dtype: Any, hypergradient: _radius.Hypergradient
) -> None:
    """Refuses what would break the method, with the reason."""
    if scope.implicit:
        if displacement_dtype is not None:
            raise ValueError(
                f"displacement_dtype: {displacement_dtype} rounds the displacement, and"
                " an implicit anchor, to which nothing but the displacement leads back,"
                " would move with it. Expected None."
            )
        for argument in ("anchor_dtype", "anchor_memory"):
            if (value := getattr(scope, argument)) is not None:
                raise ValueError(
                    f"{argument}: an implicit anchor is not kept anywhere; expected"
                    f" None, got {value!r}."
                )
    if _displacement.is_int8(displacement_dtype) and hypergradient == "active":
        raise ValueError(
            "displacement_dtype: int8 keeps the direction of each row, and"
            ' hypergradient="active" needs its norm as well. Expected a floating-point'
            " dtype."
        )


def _refuse_narrow_params(chosen: _selection.Selection) -> None:
    """An implicit anchor would move by the rounding of such params, every step."""
    params = chosen.constrained(chosen.leaves)
    for geometry, param in zip(chosen.kept(), params, strict=True):
        if (dtype := jnp.result_type(param)) != _leaves.compute_dtype(param):
            raise ValueError(
                f"anchor: the leaf {geometry.name!r} has dtype {dtype}, whose rounding"
                " would move an implicit anchor at every step. Expected float32 or"
                " wider."
            )
