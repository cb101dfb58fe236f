"""Runs of FTP on a small tree, for what must hold under every wrapper and compiler."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
import numpy_reference as reference
from ftp_optax import with_ftp
from layouts import flat


def pretrained(dtype: Any = jnp.float32) -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {
        "body": {"bias": (5,), "kernel": (3, 5)},
        "head": {"bias": (2,), "kernel": (5, 2)},
    }
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    arrays = [jax.random.normal(k, s, dtype) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, arrays)


def gradients(steps: int, params: Any, drift: float = 1.0) -> list[Any]:
    """Noise around a constant gradient: hyper-gradients of either sign."""
    leaves, treedef = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    mean = [drift * rng.normal(size=np.shape(leaf)) for leaf in leaves]
    return [
        jax.tree.unflatten(
            treedef,
            [
                jnp.asarray(m + rng.normal(size=m.shape), jnp.result_type(leaf))
                for m, leaf in zip(mean, leaves, strict=True)
            ],
        )
        for _ in range(steps)
    ]


@functools.cache
def step_of(tx: Any, grad: bool = False, jit: bool = True) -> Any:
    """One step on a given gradient, which `grad` hands on; compiled once."""

    def step(params: Any, state: Any, g: Any):
        extra = {"grad": g} if grad else {}
        updates, state = tx.update(g, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step) if jit else step


def feed(
    tx: Any, params: Any, grads: list[Any], state: Any = None, **flags: bool
) -> tuple[Any, Any]:
    """Params and state after a step of `tx` on each of the given gradients."""
    if state is None:
        state = tx.init(params)
    for g in grads:
        params, state = step_of(tx, **flags)(params, state, g)
    return params, state


def is_weight(leaf: Any) -> bool:
    """Whether an array has the size of weights, and not of radii or counts."""
    return leaf.ndim > 1 and jnp.issubdtype(leaf.dtype, jnp.floating)


def row_norms(leaf: np.ndarray) -> np.ndarray:
    return np.abs(leaf).sum(axis=0 if leaf.ndim > 1 else None)


def assert_within_radii(params: Any, anchor: Any, radii: dict[str, Any]) -> None:
    """The constraint, up to two roundings: of the update, and of params + update."""
    before = flat(anchor)
    for name, w in flat(params).items():
        if name in radii:
            wide = w.astype(np.float64)
            drift = row_norms(wide - before[name].astype(np.float64))
            radius = float(radii[name]) * (1 + 1e-6)
            half_ulp = 0.5 * float(jnp.finfo(w.dtype).eps)
            # An update leads at most from one side of the ball to the other.
            rounding = half_ulp * (row_norms(wide) + 2 * radius)
            assert np.all(drift <= radius + rounding), name


def assert_same(
    actual: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0
) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(flat(actual).items(), flat(expected).values(), strict=True)
    for (name, a), b in pairs:
        assert a.dtype == b.dtype, name
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def differ(a: Any, b: Any, by: float = 1e-3) -> bool:
    pairs = zip(flat(a).values(), flat(b).values(), strict=True)
    return any(np.max(np.abs(x - y), initial=0.0) > by for x, y in pairs)


def as_rows(leaf: np.ndarray) -> np.ndarray:
    return np.asarray(leaf.T if leaf.ndim > 1 else leaf.reshape(1, -1), np.float64)


def assert_as_by_hand(
    params: Any,
    state: Any,
    start: Any,
    grads: list[Any],
    kappa: Any = 1.0,
    radius_rate: Any = 1e-2,
) -> None:
    """Compares with the NumPy transcription after SGD at rate 0.1, leaf by leaf.

    `kappa` and `radius_rate` may be lists, with a value for every step.
    """
    kappas, rates = (np.broadcast_to(v, len(grads)) for v in (kappa, radius_rate))
    radii = ftp_optax.radii(state, params)
    for name, w_0 in flat(start).items():
        w = as_rows(w_0)
        by_hand = reference.FastTrainableProjection(w)
        for grad, own_kappa, mu in zip(grads, kappas, rates, strict=True):
            by_hand.kappa, by_hand.adam_util.mu = own_kappa, mu
            g = as_rows(flat(grad)[name])
            w = by_hand.step(w, -0.1 * g, g)
        actual = as_rows(flat(params)[name])
        np.testing.assert_allclose(actual, w, rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(radii[name], by_hand.gamma, rtol=2e-5)


OPTIMIZERS = {
    "plain": with_ftp(optax.adamw(1e-2)),
    "exclude": with_ftp(optax.adamw(1e-2), exclude="head"),
    "zero anchor": with_ftp(optax.adamw(1e-2), anchor=0.0, initial_radius=2.0),
    "frobenius": with_ftp(optax.adamw(1e-2), norm="frobenius", hypergradient="active"),
    "bfloat16 displacement": with_ftp(optax.adamw(1e-2), displacement_dtype="bfloat16"),
    "int8 displacement": with_ftp(optax.adamw(1e-2), displacement_dtype="int8"),
    "implicit anchor": with_ftp(optax.adamw(1e-2), anchor="implicit"),
    "host anchor": with_ftp(optax.adamw(1e-2), anchor_memory="pinned_host"),
    "stacked": with_ftp(
        optax.adamw(1e-2),
        axes=functools.partial(ftp_optax.flax_axes, scanned="body"),
    ),
}
each_optimizer = pytest.mark.parametrize("tx", OPTIMIZERS.values(), ids=OPTIMIZERS)
