"""What the axes of a leaf mean where it is called and shaped as flax or torch do it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from ftp_optax import _paths
from ftp_optax._axes import LeafAxes

_INPUT_OF_HEADS = re.compile(r"^(query|key|value|[qkv](_proj)?)$")
_OUT_OF_HEADS = re.compile(r"conv|^out|^o_proj$")
_SEVERAL_OUT = re.compile(r"einsum|general|expert|qkv|(^|_)kv(_|$)|gating")
_TABLE = re.compile(r"embed|token|^cls|^pos(_|$)|position|(^|_)table$")
_WEIGHT = re.compile(r"(^|[._])weight")
# Gemma's: (heads, in, head_dim), with one more leading axis where k and v, or q, k and
# v are one leaf.
_HEADS_FIRST = ("q_einsum", "kv_einsum", "qkv_einsum")


def flax_axes(
    params: optax.Params,
    *,
    scanned: str | Sequence[str] | None = None,
    named: Mapping[str, LeafAxes] | None = None,
) -> dict[str, LeafAxes]:
    """The axes of flax parameters, from their paths and shapes.

    ================================================  ========================  ========
    leaf                                              shape                     rows
    ================================================  ========================  ========
    `kernel` of Dense, Conv, attention `out`          (..., out)                last
    `kernel`, `w` of query, key, value, `q_proj`...   (in, heads, head_dim)     last two
    `w` of Haiku's Linear and convolutions            (..., out)                last
    `w` of Haiku's transposed convolutions            (..., out, in)            `out`
    Gemma's `q_einsum`, `kv_einsum`, `qkv_einsum`     (..., heads, in, dim)     not `in`
    Gemma's `attn_vec_einsum`, tunix's `o_proj`       (heads, head_dim, out)    last
    Gemma's `gating_einsum` (hidden > in)             (2, hidden, in) or        not `in`
                                                      (2, in, hidden)
    `lora_a`                                          (..., rank)               last
    `lora_b`                                          (rank, ...)               not rank
    `embedding`, `pos_embed`, a table, a token        (num, features)           first
    bias, scale, and whatever is a vector             (...), (1, ...)           one row
    any other leaf of two axes, a guess               (in, out)                 last
    ================================================  ========================  ========

    All other leaves are refused: a `weight` (of PyTorch or Equinox, with rows on axis
    0: use `torch_axes`), and leaves of three axes or more. A fused qkv kernel of two
    axes is a Dense kernel: it has one radius where split kernels have three. Some cases
    no name tells: flax's `ConvTranspose` with `transpose_kernel=True` (out before in)
    needs `named`, and stacks of layers, which look like convolutions or heads, need
    `scanned`::

      axes = functools.partial(flax_axes, scanned="^blocks/")

    Args:
      params: pytree of arrays, or of anything with their shapes.
      scanned: one regular expression or several; leaves whose path one of them matches
        (`re.search`) have a leading axis of stacked layers. An excluded leaf may match
        too.
      named: {regular expression: `LeafAxes`} for leaves that follow another convention;
        the first that matches counts, also instead of `scanned`.

    Returns:
      {path: `LeafAxes`}.

    Raises:
      TypeError, ValueError: a pattern is no regular expression, or matches no leaf, or
        a leaf without axes; or the meaning of a leaf's axes is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import flax_axes
      >>> conv = {"conv": {"kernel": jnp.zeros((3, 3, 16, 32)), "bias": jnp.zeros(32)}}
      >>> flax_axes(conv)["conv/kernel"]
      LeafAxes(rows=(3,), layers=())
      >>> flax_axes({"attn": {"query": {"kernel": jnp.zeros((64, 4, 16))}}})
      {'attn/query/kernel': LeafAxes(rows=(1, 2), layers=())}
      >>> stacked = {"blocks": {"kernel": jnp.zeros((12, 64, 256))}}
      >>> flax_axes(stacked, scanned="^blocks/")
      {'blocks/kernel': LeafAxes(rows=(2,), layers=(0,))}
    """
    names, leaves, hidden = _named(params)
    stacked: set[str] = set()
    for pattern in _paths.patterns("scanned", scanned):
        stacked |= _paths.matches("scanned", pattern, names, hidden)
    told: dict[str, LeafAxes] = {}
    for pattern in _paths.patterns("named", None if named is None else tuple(named)):
        for name in _paths.matches("named", pattern, names, hidden):
            told.setdefault(name, (named or {})[pattern])
    return {
        name: told[name]
        if name in told
        else _flax_leaf(name, tuple(leaf.shape), name in stacked)
        for name, leaf in zip(names, leaves, strict=True)
    }


def _named(params: Any) -> tuple[list[str], list[Any], list[str]]:
    """Names and leaves, and the names of what is left alone or kept back."""
    names, leaves, _ = _paths.flatten_with_names(params)
    if names == [""] and jnp.shape(leaves[0]) == () and _is_integer(leaves[0]):
        raise TypeError(
            "axes: they were given a count of steps for the params, since"
            " optax.inject_hyperparams takes a callable for a schedule. Expected"
            " inject_hyperparams(..., static_args=('axes',))."
        )
    return names, leaves, _paths.hidden_nodes(params)


def _is_integer(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.integer)


def _flax_leaf(path: str, shape: tuple[int, ...], stacked: bool) -> LeafAxes:
    if stacked and not shape:
        raise ValueError(
            f"scanned: a leaf it matches needs a leading layer axis, got {path!r} of"
            f" shape ()."
        )
    offset = int(stacked)
    rows = _flax_rows(path, shape[offset:])
    return LeafAxes(tuple(axis + offset for axis in rows), (0,) if stacked else ())


def _flax_rows(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    parent, name = ["", *path.lower().split("/")][-2:]
    ndim = len(shape)
    every, last = range(ndim), (ndim - 1,)
    if ndim < 2 or name in ("bias", "scale", "b"):
        return ()
    if name == "lora_a" or name.endswith("_lora_a"):
        return last
    if name == "lora_b" or name.endswith("_lora_b"):
        return tuple(every[1:])
    if name in ("kernel", "w") and _INPUT_OF_HEADS.search(parent) and ndim > 2:
        if ndim == 3:
            return (1, 2)
        raise _unknown(path, shape)
    if ndim > 2 and not {name, parent}.isdisjoint(_HEADS_FIRST):
        return tuple(axis for axis in every if axis != ndim - 2)
    if ndim == 3 and "gating_einsum" in (name, parent) and shape[1] != shape[2]:
        return (0, 1) if shape[1] > shape[2] else (0, 2)
    if "attn_vec_einsum" in (name, parent):
        return last
    if name == "kernel" and (ndim == 2 or _is_convolution(parent, ndim)):
        return last
    if name == "w" and "transpose" in parent and ndim > 2:
        return (ndim - 2,)
    if name == "w" and (ndim == 2 or _OUT_OF_HEADS.search(parent)):
        return last
    # Tables and tokens lie in memory as torch has them, so they keep torch's axis 0.
    if _TABLE.search(name):
        return (0,)
    if sum(size != 1 for size in shape) < 2 and name not in ("kernel", "w"):
        return ()  # a vector, whatever its shape
    if ndim == 2 and not _WEIGHT.search(name):
        return last
    raise _unknown(path, shape)


def _is_convolution(parent: str, ndim: int) -> bool:
    """Or whatever else has its outputs last; three axes are as often an einsum's."""
    if _SEVERAL_OUT.search(parent):
        return False
    return ndim > 3 or bool(_OUT_OF_HEADS.search(parent))


def _unknown(path: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"axes: which axes of the leaf {path!r} of shape {shape} count rows (output"
        " units) does not show from its name. Pass axes=torch_axes if axis 0 counts"
        " them in all leaves, as in PyTorch and Equinox; or"
        " axes=functools.partial(flax_axes, named={PATTERN: LeafAxes(rows=...)}), with"
        " a PATTERN that matches this path; or scanned=PATTERN beside it if its first"
        " axis stacks layers; or leave the leaf out with exclude."
    )


def torch_axes(params: optax.Params) -> dict[str, LeafAxes]:
    """The axes of parameters laid out as in PyTorch: axis 0 counts the rows.

    Equinox uses this layout too. 1-D and 0-D leaves are one row, as in the published
    implementation.

    Args:
      params: pytree of arrays, or of anything with their shapes.

    Returns:
      {path: `LeafAxes`}.

    Examples:
      >>> import jax.numpy as jnp
      >>> from ftp_optax import torch_axes
      >>> torch_axes({"weight": jnp.zeros((32, 16, 3, 3)), "bias": jnp.zeros((32,))})
      {'bias': LeafAxes(rows=(), layers=()), 'weight': LeafAxes(rows=(0,), layers=())}
    """
    names, leaves, _ = _named(params)
    return {
        name: LeafAxes(rows=(0,) if len(leaf.shape) > 1 else ())
        for name, leaf in zip(names, leaves, strict=True)
    }
