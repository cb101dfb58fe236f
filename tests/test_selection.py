"""Which leaves are constrained, and what is said where the choice cannot be right."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from ftp_optax import LeafAxes, radii, with_ftp

PARAMS = {
    "layers": [{"kernel": jnp.ones((2, 3))}, {"kernel": jnp.ones((3, 3))}],
    "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((2,))},
}
SGD = optax.sgd(0.1)


def constrained(**options):
    tx = with_ftp(SGD, **options)
    return sorted(radii(tx.init(PARAMS), PARAMS))


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


def test_a_pattern_for_leaves_that_an_outer_mask_hides_is_no_error():
    tx = optax.masked(
        with_ftp(SGD, exclude="head"),
        {"layers": True, "head": {"kernel": False, "bias": False}},
    )
    assert len(radii(tx.init(PARAMS), PARAMS)) == 2
