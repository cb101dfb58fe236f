"""Fast Trainable Projection (FTP).

Tian, Liu, Smith, Kira, *Fast Trainable Projection for Robust Fine-Tuning*, NeurIPS
2023, https://arxiv.org/abs/2310.19182. The constants and the order of operations are
those of the published implementation.
"""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ftp_optax import (
    _anchor,
    _axes,
    _checks,
    _devices,
    _leaves,
    _projection,
    _radii,
    _wrapper,
)

Hypergradient = Literal["published", "active"]


class FTPState(NamedTuple):
    """State of `ftp`. R counts radii, L constrained leaves.

    Every array is a buffer of its own and can be donated. Excluded leaves have an
    `optax.MaskedNode` in `anchor` and `displacement`.

    Attributes:
      anchor: W0, like the params, in their dtypes; only `optax.MaskedNode` if it is
        implicit.
      radii: gamma, shape (R,), float32: one radius per constrained leaf, or per layer
        of a stacked leaf, in tree order. Units of the weights (sums of them for MARS).
      radius_state: state of the optimizer that trains `radii`, and of its guard.
      displacement: C, like the params: the last step's displacement from the anchor
        before the projection, in float32 or wider unless `displacement_dtype` says
        otherwise; zeros at first. In int8 only the direction of each row.
      step: shape (), int32: the number of updates so far.
      norms: shape (R,), float32: the largest row norm of the last step's displacement
        before the projection; 0 before the first step.
      bound: shape (R,), float32, in [0, 1]: the share of rows that the last step had to
        shorten.
      first_norms: `norms` of the first step.
      initial: the leaves of `radii` and `radius_state` as `init` made them, for
        `reset_anchor`.
      geometry: shape (L, 3), int32, for readers of the state such as `radii`: for each
        leaf the axes that count rows and those that stack layers, as bit masks; and
        the norm.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import ftp
      >>> state = ftp().init({"w": jnp.ones(2)})
      >>> print(state.anchor["w"], state.radii, state.step)
      [1. 1.] [1.e-08] 0
    """

    anchor: optax.Params
    radii: jax.Array
    radius_state: optax.OptState
    displacement: optax.Params
    step: jax.Array
    norms: jax.Array
    bound: jax.Array
    first_norms: jax.Array
    initial: tuple[jax.Array, ...]
    geometry: jax.Array


def ftp(
    kappa: optax.ScalarOrSchedule = 1.0,
    *,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    axes: _axes.Axes = None,
    anchor: _anchor.Anchor | _anchor.Implicit = None,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
    norm: _projection.Norm = "mars",
    hypergradient: Hypergradient = "published",
    displacement_dtype: jax.typing.DTypeLike | None = None,
    anchor_memory: _anchor.Memory = None,
    specs: _axes.Specs = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps each leaf within a trained radius of its pre-trained value.

    The last link of a chain, after everything that makes the optimizer's step. Prefer
    `with_ftp`, which explains the arguments: this link also needs the raw gradient,
    which a chain does not pass on.

    For a leaf :math:`W` with anchor :math:`W_0`, gradient :math:`g` at :math:`W` and
    incoming step :math:`u`, one update is

    .. math::

        h &= \sum_r \langle g_r, C^{prev}_r \rangle / n^{prev}_r \\
        C &= W + u - W_0, \qquad n_r = \|C_r\|_1 + 10^{-8} \text{ for each row } r \\
        h &\leftarrow \kappa h \text{ where } h > 0 \\
        \gamma &\leftarrow \mathrm{clip}(\gamma + \mathrm{opt}(h), 10^{-8}, \max_r n_r)
        \\
        W_r &\leftarrow W_{0,r} + \mathrm{clip}(\gamma / n_r, 0, 1)\, C_r

    :math:`h` is the derivative of the loss with respect to the radius through the
    previous step; opt is any optax transformation, Adam by default. At the first step
    :math:`h` is 0, so the constrained leaves stay at the anchor (to 1e-8).

    An :math:`h` that is not finite, above 1e18, or more than a hundred times the
    largest of about the last thousand steps counts as 0, since Adam would remember its
    square for a thousand steps. The first :math:`h`, at the second step, has nothing to
    be compared with. A scale that stays larger is accepted after a few steps.

    The raw gradient is the extra argument `grad` of `update`. Without it `ftp` warns
    and uses the reversed updates. After plain SGD at a constant rate that is exact (up
    to Adam's epsilon), since Adam ignores the scale; after adamw it is the
    preconditioned gradient.

    Args:
      kappa: see `with_ftp` for this and all other arguments.

    Returns:
      A `GradientTransformationExtraArgs` with state `FTPState`. Updates of constrained
      leaves have the params' dtypes; arithmetic is in float32 or wider.

    Raises:
      TypeError, ValueError: arguments, params, gradients or a state that do not fit; or
        `grad` is the incoming step itself, as if no optimizer stood before the link.

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
    _checks.schedule("kappa", kappa, 1.0)
    _checks.scalar("initial_radius", initial_radius, 0.0, jnp.inf, "a number >= 0")
    _checks.choice("norm", norm, _projection.NORMS)
    _checks.choice("hypergradient", hypergradient, get_args(Hypergradient))
    _projection.check_dtype(displacement_dtype)
    scope = _anchor.Scope(
        axes, exclude, mask, anchor, anchor_memory, specs, may_be_implicit=True
    )
    scope.check()
    _refuse_combinations(scope, displacement_dtype, hypergradient)
    optimizer = _radii.guarded("radius_optimizer", radius_optimizer)
    _radii.refuse_nan("radius_optimizer", optimizer, initial_radius)
    choose_gradient = _wrapper.chooser("ftp")

    def init_fn(params: optax.Params) -> FTPState:
        leaves = scope.select(params)
        if scope.implicit:
            _refuse_narrow(leaves)
        radii = jnp.full((leaves.num_radii,), initial_radius, dtype=jnp.float32)
        radius_state = optimizer.init(radii)
        dtypes = [displacement_dtype or w.dtype for w in leaves.w()]
        zeros = [
            _devices.zeros_like(jnp.asarray(leaves.params[i]), dtype)
            for i, dtype in zip(leaves.chosen, dtypes, strict=True)
        ]
        return FTPState(
            anchor=scope.tree(leaves),
            radii=radii,
            radius_state=radius_state,
            displacement=leaves.tree(zeros),
            step=jnp.zeros([], jnp.int32),
            norms=jnp.zeros_like(radii),
            bound=jnp.zeros_like(radii),
            first_norms=jnp.zeros_like(radii),
            initial=tuple(map(jnp.array, jax.tree.leaves((radii, radius_state)))),
            geometry=_projection.described(leaves.geometries, norm),
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,  # FTPState; to optax's types every state is a tree of arrays
        params: optax.Params | None = None,
        *,
        grad: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, FTPState]:
        # ---- The constrained leaves, as lists in tree order.
        leaves = scope.select(params)
        _checks.state_type(state, FTPState)
        w, geometries = leaves.w(), leaves.geometries
        w0 = None if scope.implicit else scope.w0(leaves, state.anchor)
        u = leaves.read("updates", updates)
        grad = choose_gradient(grad, updates)
        g = [-u_i for u_i in u] if grad is None else leaves.read("grad", grad)
        c_prev = leaves.read_state("displacement", state.displacement)
        gamma_prev = _radii.split(leaves.read_vector("radii", state.radii), geometries)
        if scope.implicit:
            _projection.refuse_rounded(state.displacement)

        h, c, n = [], [], []
        for i, geometry in enumerate(geometries):
            # ---- h = sum over rows <g, C_prev> / n_prev, 0 at the first step.
            n_prev = _projection.row_norms(c_prev[i], geometry, norm)
            # An elementwise product: contractions fail under explicit sharding.
            over = _projection.measured_over(geometry, norm)
            h_rows = _projection.total(g[i] * c_prev[i], over, geometry) / n_prev
            if hypergradient == "active":
                was_bound = gamma_prev[i].astype(n_prev.dtype) < n_prev
                h_rows = jnp.where(was_bound, h_rows, jnp.zeros_like(h_rows))
            h.append(_projection.over_rows(h_rows, geometry, norm))

            # ---- C = (W - W0) + u, where W - W0 is the last step, as projected.
            if w0 is None:
                d = _projection.shortening(gamma_prev[i], n_prev) * c_prev[i]
            else:
                d = w[i] - w0[i]
            # C is written over the donated C_prev, which h has to read before. Only a
            # dependency in the data says so: XLA would copy every leaf otherwise, and
            # its CPU back end drops `optimization_barrier` too early. It belongs on u:
            # around the sum, XLA takes it for cheap and repeats the sum.
            c.append(d + _projection.after(u[i], h[i].reshape(geometry.radius_shape)))
            n.append(_projection.row_norms(c[i], geometry, norm))
        n_max = _radii.join(list(map(_projection.largest, n, geometries)))

        # ---- h <- kappa h where h > 0, which would shrink the radius.
        h = _radii.join(h)
        kappa_now = jnp.asarray(_anchor.value_at(kappa, state.step), dtype=h.dtype)
        h = jnp.where(h > 0, kappa_now * h, h)

        # ---- gamma <- clip(gamma + opt(h), 1e-8, max over rows n).
        radius_step, radius_state = optimizer.update(
            h, state.radius_state, state.radii, **extra_args
        )
        radii = jnp.asarray(optax.apply_updates(state.radii, radius_step))
        radii = jnp.clip(radii, _projection.EPS, n_max)

        # ---- W <- W0 + clip(gamma / n, 0, 1) C, as the update that leads there.
        gamma, steps, bound = _radii.split(radii, geometries), [], []
        for i, geometry in enumerate(geometries):
            q = _projection.shortening(gamma[i], n[i])
            if w0 is None or scope.anchor_memory is not None:
                # Without W0, which is not there, or would have to be fetched once more.
                steps.append(u[i] - (1.0 - q) * c[i])
            else:
                steps.append(w0[i] + q * c[i] - w[i])
            bound.append(_projection.share(q < 1.0, geometry, norm))

        return leaves.write(steps, updates), FTPState(
            anchor=state.anchor,
            radii=radii,
            radius_state=radius_state,
            displacement=_projection.stored(c, geometries, state.displacement, norm),
            step=jnp.asarray(optax.safe_increment(state.step)),
            norms=n_max,
            bound=_radii.join(bound),
            first_norms=jnp.where(state.step == 0, n_max, state.first_norms),
            initial=state.initial,
            geometry=_projection.described(geometries, norm),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def with_ftp(
    optimizer: optax.GradientTransformation,
    kappa: optax.ScalarOrSchedule = 1.0,
    *,
    exclude: _leaves.Exclude = None,
    mask: _leaves.Mask = None,
    axes: _axes.Axes = None,
    anchor: _anchor.Anchor | _anchor.Implicit = None,
    radius_optimizer: optax.GradientTransformation | None = None,
    initial_radius: jax.typing.ArrayLike = 1e-8,
    norm: _projection.Norm = "mars",
    hypergradient: Hypergradient = "published",
    displacement_dtype: jax.typing.DTypeLike | None = None,
    anchor_memory: _anchor.Memory = None,
    specs: _axes.Specs = None,
) -> optax.GradientTransformationExtraArgs:
    """Any optimizer, kept within trained radii of the pre-trained weights.

    `chain(optimizer, ftp(...))` that passes the gradients it receives on as `grad`, so
    it is exact in every loop that runs the optimizer. `ftp` has the equations.

    **Clip before it, not inside**: `chain(clip_by_global_norm(1.0), with_ftp(adamw))`.
    A clip inside does not act on the gradient that trains the radii, and their own Adam
    remembers a spike for a thousand steps.

    Most runs set `kappa` and `exclude`, some `mask`, `axes` or `anchor`. Studies vary
    `radius_optimizer`, `initial_radius`, `norm`, `hypergradient`; large models need
    `displacement_dtype`, `anchor_memory`, `specs`.

    Args:
      optimizer: makes the unconstrained step, with its weight decay, momentum and
        schedules. Excluded leaves take this step unchanged. `lookahead`, `MultiSteps`
        and `sam` are refused, as they go around `with_ftp`; `schedule_free` is refused
        since the two do not combine.
      kappa: gradient annealing factor in [0, 1]. 1 lets the gradient grow and shrink
        the radius, and holds tightest; with 0 it never shrinks one. A number, or a
        schedule of the number of updates since `init` or `reset_anchor`.
      exclude: one regular expression or several, searched for (`re.search`) in paths
        such as `head/kernel`; leaves that match are not constrained. "^head/" for a
        new head.
      mask: pytree of bool, a prefix of the params, or a callable that makes one from
        the params; `False` excludes a leaf, as in `optax.masked`.
      axes: the meaning of each leaf's axes: one `LeafAxes`, a pytree of them (a prefix
        of the params; `None` excludes a leaf), or a callable that makes one from the
        params that are not excluded. `None` is `flax_axes`; `torch_axes` is for Equinox
        and converted weights. `leaf_axes` shows what is chosen.
      anchor: `None` copies the params given to `init`. A number, such as 0.0 for
        adapters, stands for every weight. "implicit" keeps no copy: the anchor follows
        from params and displacement, so nothing else may move the params or edit
        `radii`, and the params must be float32 or wider. `reset_anchor` sets other
        weights than those given to `init`.
      radius_optimizer: optax transformation that trains the (R,) vector of radii.
        `None` is `optax.adam(1e-2)` (with an `eps_root` that makes it differentiable at
        its first step).
      initial_radius: every radius before the first step. `jnp.inf` leaves the first
        step unconstrained.
      norm: "mars", the L1 norm of each row; or "frobenius", the L2 norm of the whole
        leaf (layer), which then counts as one row.
      hypergradient: "published" sums over all rows; "active" only over the rows that
        the projection shortened, which is the exact derivative.
      displacement_dtype: dtype in which to keep the displacement: a floating-point one,
        or int8, in units of each row's largest entry / 127. `None` is float32 or wider.
      anchor_memory: "pinned_host" keeps the anchor in the host's page-locked memory and
        fetches it once a step (needs `jax.memory`); `None` keeps it beside the params.
        Donate params and state together and return them in the same order; otherwise
        jax may match a donated array with a result in the other memory, and abort.
      specs: only inside a `jax.shard_map` whose mesh axes shard the params: the specs
        that it was given for them, so that norms are those of whole rows. One
        `PartitionSpec`, a pytree of them (a prefix of the params), or a callable that
        makes one from the params. Without them a split leaf is refused; with
        `check_vma=False` it cannot be seen, and norms are silently those of the shards.

    Returns:
      A `GradientTransformationExtraArgs`; its state is the pair of the optimizer's
      state and the `FTPState`.

    Raises:
      TypeError, ValueError: arguments, params, gradients or a state that do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from ftp_optax import with_ftp
      >>> pretrained = {"kernel": jnp.ones((2, 3)), "head": jnp.zeros((3,))}
      >>> loss = lambda p: jnp.sum((p["kernel"].sum(0) + p["head"] - 5.0) ** 2)
      >>> tx = with_ftp(optax.adamw(1e-1), exclude="^head")
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
        exclude=exclude,
        mask=mask,
        axes=axes,
        anchor=anchor,
        radius_optimizer=radius_optimizer,
        initial_radius=initial_radius,
        norm=norm,
        hypergradient=hypergradient,
        displacement_dtype=displacement_dtype,
        anchor_memory=anchor_memory,
        specs=specs,
    )
    select = _anchor.Scope(axes, exclude, mask, specs=specs).select
    return _wrapper.with_gradient(optimizer, link, select, FTPState, "displacement")


def _refuse_combinations(
    scope: _anchor.Scope, displacement_dtype: Any, hypergradient: Hypergradient
) -> None:
    """Refuses what would break the method, with the reason."""
    if scope.implicit and displacement_dtype is not None:
        raise ValueError(
            f"displacement_dtype: {displacement_dtype} rounds the displacement, and an"
            " implicit anchor, to which nothing but the displacement leads back, would"
            " move with it. Expected None."
        )
    if scope.implicit and scope.anchor_memory is not None:
        raise ValueError(
            "anchor_memory: an implicit anchor is not kept anywhere; expected None, got"
            f" {scope.anchor_memory!r}."
        )
    if _projection.is_int8(displacement_dtype) and hypergradient == "active":
        raise ValueError(
            "displacement_dtype: int8 keeps the direction of each row, and"
            ' hypergradient="active" needs its norm as well. Expected a floating-point'
            " dtype."
        )


def _refuse_narrow(leaves: _leaves.Leaves) -> None:
    """An implicit anchor would move by the rounding of such params, every step."""
    for i, geometry in zip(leaves.chosen, leaves.geometries, strict=True):
        dtype = jnp.result_type(leaves.params[i])
        if dtype != _leaves.compute_dtype(leaves.params[i]):
            raise ValueError(
                f"anchor: the leaf {geometry.name!r} has dtype {dtype}, whose rounding"
                " would move an implicit anchor at every step. Expected float32 or"
                " wider."
            )
