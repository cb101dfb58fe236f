"""Which leaves are constrained, and what is said where the choice cannot be right."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftp_optax import LeafAxes, ftp, radii, with_ftp

PARAMS = {
    "layers": [{"kernel": jnp.ones((2, 3))}, {"kernel": jnp.ones((3, 3))}],
    "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((2,))},
}
SGD = optax.sgd(0.1)


def constrained(**options):
    tx = with_ftp(SGD, **options)
    return sorted(radii(tx.init(PARAMS), PARAMS))


def test_leaves_are_named_by_their_joined_path():
    assert constrained() == [
        "head/bias",
        "head/kernel",
        "layers/0/kernel",
        "layers/1/kernel",
    ]


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ("head", ["layers/0/kernel", "layers/1/kernel"]),
        ("^layers/1/", ["head/bias", "head/kernel", "layers/0/kernel"]),
        (["bias$", "layers"], ["head/kernel"]),
        (("bias$", r"\d"), ["head/kernel"]),
    ],
)
def test_exclude_searches_the_paths(exclude, expected):
    assert constrained(exclude=exclude) == expected


@pytest.mark.parametrize(
    "mask",
    [
        {"layers": True, "head": False},
        {"layers": [True, True], "head": {"kernel": False, "bias": False}},
        lambda params: jax.tree.map(
            lambda p: p.shape[0] == p.shape[-1] or p.ndim < 2, params
        ),
    ],
    ids=["prefix", "full", "callable"],
)
def test_mask_follows_optax(mask):
    found = constrained(mask=mask)
    if callable(mask):
        assert found == ["head/bias", "layers/1/kernel"]
    else:
        assert found == ["layers/0/kernel", "layers/1/kernel"]


def test_mask_and_exclude_both_apply():
    mask = {"layers": True, "head": False}
    assert constrained(mask=mask, exclude="layers/0") == ["layers/1/kernel"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Attention:
    query: Any
    key: Any
    value: Any


ONES = jnp.ones((2, 2))


def test_a_module_with_an_attribute_called_value_keeps_its_name():
    params = Attention(ONES, ONES, ONES)
    assert list(radii(with_ftp(SGD).init(params), params)) == ["query", "key", "value"]


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": "query|key"},
        {"mask": {"attention": Attention(False, False, True)}},
        {"axes": {"attention": Attention(None, None, LeafAxes(rows=1))}},
    ],
    ids=lambda options: ",".join(options),
)
def test_an_attribute_called_value_keeps_its_name_without_its_siblings(options):
    params = {"attention": Attention(ONES, ONES, ONES)}
    tx = with_ftp(SGD, **options)
    state = tx.init(params)
    tx.update(params, state, params)
    axes = options.get("axes")
    assert list(radii(state, params, axes=axes)) == ["attention/value"]


def test_leaves_of_the_same_path_are_refused():
    params = {"a/b": ONES, "a": {"b": ONES}}
    with pytest.raises(ValueError, match=r"params: more than one leaf .* 'a/b'"):
        with_ftp(SGD).init(params)


def test_a_pattern_that_matches_nothing_lists_the_paths():
    with pytest.raises(
        ValueError, match=r"exclude: .*'heads'.*matches no leaf"
    ) as info:
        constrained(exclude=["head", "heads"])
    for path in ("head/bias", "head/kernel", "layers/0/kernel", "layers/1/kernel"):
        assert path in str(info.value)


def test_a_pattern_for_leaves_that_an_outer_mask_hides_is_no_error():
    tx = optax.masked(
        with_ftp(SGD, exclude="head"),
        {"layers": True, "head": {"kernel": False, "bias": False}},
    )
    assert len(radii(tx.init(PARAMS), PARAMS)) == 2


def test_what_is_no_regular_expression_is_refused():
    with pytest.raises(ValueError, match=r"exclude: '\(' is not a regular expression"):
        with_ftp(SGD, exclude="(")


@pytest.mark.parametrize(
    "exclude", [[1], 1, re.compile("head"), filter(None, ["head"])], ids=type
)
def test_what_is_no_sequence_of_strings_is_no_exclude(exclude):
    with pytest.raises(TypeError, match=r"exclude: expected a regular expression"):
        with_ftp(SGD, exclude=exclude)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": "."},
        {"mask": {"layers": False, "head": False}},
        {"axes": lambda params: {"": None}},
        {"exclude": "head", "mask": {"layers": False, "head": True}},
    ],
)
def test_to_leave_every_leaf_alone_is_refused(options):
    with pytest.raises(ValueError, match=r"no leaf to constrain.*'layers/0/kernel'"):
        constrained(**options)


def test_a_mask_that_lacks_a_leaf_is_refused():
    with pytest.raises(ValueError, match=r"mask: .*no entry for the leaf 'layers/0/k"):
        constrained(mask={"head": True})


def test_an_entry_is_not_for_leaves_whose_names_begin_alike():
    params = {"block": {"w": ONES}, "block_2": {"w": ONES}}
    with pytest.raises(ValueError, match=r"mask: .*no entry for the leaf 'block_2/w'"):
        ftp(mask={"block": True}).init(params)


@pytest.mark.parametrize(
    "dtype", [jnp.int32, jnp.bool_, jnp.uint8, jnp.complex64, jnp.float8_e4m3fn]
)
def test_a_leaf_that_is_not_real_floating_point_is_refused_unless_excluded(dtype):
    params = {"table": {"index": jnp.ones((3,), dtype)}, "w": jnp.ones((3,))}
    with pytest.raises(TypeError, match=r"params: .*'table/index'.*dtype.*exclude"):
        with_ftp(SGD).init(params)
    tx = ftp(exclude="index")
    updates, _ = tx.update(
        params, tx.init(params), params, grad={**params, "w": -params["w"]}
    )
    np.testing.assert_array_equal(updates["table"]["index"], params["table"]["index"])


def test_python_integers_are_integer_leaves():
    with pytest.raises(TypeError, match=r"params: the leaf 'step' has dtype int"):
        with_ftp(SGD).init({"step": 3, "w": jnp.ones((3,))})


def test_axes_are_not_asked_of_excluded_leaves():
    tx = with_ftp(SGD, exclude="head", axes=LeafAxes(rows=(0, 1)))
    assert len(radii(tx.init(PARAMS), PARAMS, axes=LeafAxes(rows=(0, 1)))) == 2
