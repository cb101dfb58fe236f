"""Leaving the anchor out of a checkpoint, and taking it again from the weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ftp_optax import _anchor, _checks, _devices, _paths, _states
from ftp_optax._ftp import FTPState

WORDS = 4  # of 32 bits, in a digest


def drop_anchor(state: optax.OptState) -> optax.OptState:
    """The state with digests in the place of the anchor, to be saved.

    A pre-trained anchor lies in a file already; a checkpoint need not hold it again.
    `restore_anchor` takes it from there, and refuses other weights.

    Args:
      state: any optimizer state that holds one of this library. It stays as it is, and
        usable.

    Returns:
      The same structure; each leaf of an anchor is a uint32 digest of shape (4,), the
      same on any number of devices, and in any dtype that holds the weights.

    Raises:
      ValueError: there is no such state, its anchor is implicit, or dropped already.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from ftp_optax import drop_anchor, restore_anchor, with_ftp
      >>> pretrained = {"kernel": jnp.ones((2, 3))}
      >>> saved = drop_anchor(with_ftp(optax.adamw(1e-4)).init(pretrained))
      >>> optax.tree.get(saved, "anchor")["kernel"].shape
      (4,)
      >>> state = restore_anchor(saved, pretrained)
      >>> print(optax.tree.get(state, "anchor")["kernel"][0])
      [1. 1. 1.]
    """

    def drop(node: Any) -> Any:
        leaves, treedef = jax.tree.flatten(_kept_anchor(node))
        if any(map(_checks.is_digest, leaves)):
            raise ValueError("state: its anchor was dropped already.")
        return node._replace(anchor=jax.tree.unflatten(treedef, map(digest, leaves)))

    return _states.map_states(drop, state)


def restore_anchor(
    state: optax.OptState,
    pretrained: optax.Params,
    *,
    params: optax.Params | None = None,
    anchor_dtype: Any = None,
    anchor_memory: _anchor.Memory = None,
) -> optax.OptState:
    """Puts the anchor that `drop_anchor` left out back from the pre-trained weights.

    Args:
      state: from `drop_anchor`, saved and restored.
      pretrained: the params that were given to `init`, or the tree or the number given
        as `anchor`; copied. A tree may hold more leaves than the anchor.
      params: the params of the training: the anchor takes their dtypes and their
        sharding, as `init` makes it. Without, it has the dtypes of `pretrained`, and
        the sharding of the displacement where the state is an `FTPState`.
      anchor_dtype: as given to `ftp`.
      anchor_memory: as given to `ftp`.

    Returns:
      A state to go on with.

    Raises:
      ValueError: the anchor was not dropped; or a weight differs from the one that
        training began with, and then the leaf is named; or it is called under `jit`,
        where weights cannot be compared.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import drop_anchor, ftp, restore_anchor
      >>> saved = drop_anchor(ftp().init({"kernel": jnp.ones((2, 3))}))
      >>> restore_anchor(saved, {"kernel": jnp.zeros((2, 3))})
      Traceback (most recent call last):
      ValueError: pretrained: the leaf 'kernel' is not the one that training began with.
    """
    _anchor.Scope(anchor_dtype=anchor_dtype, anchor_memory=anchor_memory).check()
    param_of = None if params is None else _reader("params", params)
    is_number = _anchor.is_number(pretrained)
    weight_of = None if is_number else _reader("pretrained", pretrained)

    def copy(name: str, expected: Any, like: Any) -> jax.Array:
        if not _checks.is_digest(expected):
            raise ValueError(f"state: it has an anchor for the leaf {name!r} already.")
        like = like if param_of is None else param_of(name)
        weight = weight_of(name) if weight_of else _filled(pretrained, name, like)
        if isinstance(weight, Tracer) or isinstance(expected, Tracer):
            raise ValueError(
                f"pretrained: the leaf {name!r} cannot be compared with the one that"
                " training began with under jit. Call restore_anchor outside."
            )
        # As `init` kept it: in the dtype of the param, unless it was told another.
        told = param_of is None or anchor_dtype is not None
        found = jnp.asarray(weight, dtype=None if told else jnp.result_type(like))
        if not np.array_equal(digest(found), expected):
            raise ValueError(
                f"pretrained: the leaf {name!r} is not the one that training began"
                " with."
            )
        found = _anchor.copied(name, found, None, anchor_dtype, like=like)
        return found if anchor_memory is None else _devices.to_host(found)

    def restore(node: Any) -> Any:
        names, digests, treedef = _paths.flatten_with_names(_kept_anchor(node))
        alike = [None] * len(names)
        if isinstance(node, FTPState):
            alike = jax.tree.leaves(node.displacement)
        copies = map(copy, names, digests, alike)
        return node._replace(anchor=jax.tree.unflatten(treedef, copies))

    return _states.map_states(restore, state)


def _filled(number: Any, name: str, like: Any) -> jax.Array:
    """The leaf in the shape of `like` that is full of a number."""
    if like is None:
        raise ValueError(
            f"params: expected the params of the training, whose leaf {name!r} tells"
            f" how often the anchor repeats {number!r}; got None."
        )
    return jnp.full(jnp.shape(like), number, jnp.float32)


def _reader(argument: str, tree: Any) -> Callable[[str], Any]:
    """Reads a tree as a function of a leaf's name."""
    names, leaves, _ = _paths.flatten_with_names(tree)
    found = dict(zip(names, leaves, strict=True))

    def read(name: str) -> Any:
        if name not in found:
            raise ValueError(
                f"{argument}: no leaf {name!r}, which the anchor had; its leaves are"
                f" {_paths.listed(names)}."
            )
        return found[name]

    return read


@jax.jit
def digest(leaf: jax.Array) -> jax.Array:
    """A 128-bit digest of the shape, the values and their places, (4,) of uint32.

    Sums of mixed words modulo 2^32: no order of summation, and so no sharding, changes
    them. It tells other weights apart, and does not guard against forgery.
    """
    words = _words(_devices.to_device(leaf))
    shape = jnp.uint32(leaf.ndim)
    index = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        shape = _mix(shape) ^ jnp.uint32(size % 2**32)
        index = index * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(
            jnp.uint32, leaf.shape, axis
        )
    sums = []
    for seed in range(1, WORDS + 1):
        mixed = jnp.full(leaf.shape, seed * 0x9E3779B9 % 2**32, jnp.uint32)
        for word in (index, *words):
            mixed = _mix(mixed ^ word)
        sums.append(jnp.sum(mixed, dtype=jnp.uint32))
    return jnp.stack(sums) + _mix(shape)


def _words(leaf: jax.Array) -> list[jax.Array]:
    """The bits as words of 32; those of float32 for a dtype that float32 holds."""
    if leaf.dtype.itemsize <= 4:
        return [jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)]
    pairs = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    return [pairs[..., 0], pairs[..., 1]]


def _mix(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: every bit of `x` reaches every other."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _kept_anchor(node: Any) -> Any:
    displaced = isinstance(node, FTPState) and jax.tree.leaves(node.displacement)
    if displaced and not jax.tree.leaves(node.anchor):
        raise ValueError(
            "state: its anchor is implicit; there is none to leave out of a checkpoint."
        )
    return node.anchor
