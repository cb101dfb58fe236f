"""Bad input: what refuses it, by which exception, and the words that matter.

Each message names the argument, the leaf where there is one, and what was expected.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import ftp_optax
import methods
from ftp_optax import LeafAxes, flax_axes, ftp, radii, reset_anchor, summary
from methods import SGD

PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros((3,))}}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
ONES = jnp.ones((2, 3))
NAN = float("nan")
NO_NUMBERS = ["1.0", None, jnp.ones(2), {"dense": 0.1}]

MAKE = {
    "ftp": ftp,
    "with_ftp": functools.partial(ftp_optax.with_ftp, SGD),
    "l2_sp": functools.partial(ftp_optax.l2_sp, strength=0.1),
    "mars_sp": functools.partial(ftp_optax.mars_sp, strength=0.1),
    "mars_pgm": functools.partial(ftp_optax.mars_pgm, radius=0.1),
    "spd": functools.partial(ftp_optax.spd, strength=0.1),
    "with_spd": functools.partial(ftp_optax.with_spd, SGD, strength=0.1),
    "digrap": ftp_optax.digrap,
    "tpgm": ftp_optax.tpgm,
}
EVERY = tuple(MAKE)
OTHERS = tuple(name for name in EVERY if "ftp" not in name)
BOTH_FTP = ("ftp", "with_ftp")
STRENGTHS = ("l2_sp", "mars_sp", "spd", "with_spd")
WITH_NORM = tuple(name for name in EVERY if name not in ("l2_sp", "digrap"))

# ---- Arguments: methods, argument, values, exception, words ------------------------

KAPPA = r"kappa: expected a number in \[0, 1\] or a sch.*got"
STRENGTH = r"strength: expected a number >= 0 or"
DTYPE = "displacement_dtype"
ARGUMENTS = {
    "kappa_outside": (
        BOTH_FTP, "kappa", [-0.1, 1.1, 2, NAN, jnp.asarray(1.5)], ValueError, KAPPA,
    ),
    "kappa_no_number": (BOTH_FTP, "kappa", NO_NUMBERS, TypeError, KAPPA),
    "strength_below_0": (
        STRENGTHS, "strength", [-0.1, NAN, jnp.asarray(-1.0)], ValueError, STRENGTH,
    ),
    "strength_no_number": (STRENGTHS, "strength", NO_NUMBERS, TypeError, STRENGTH),
    "initial_radius": (
        BOTH_FTP, "initial_radius", [-1.0, NAN], ValueError,
        r"initial_radius: expected a number >= 0, got",
    ),
    "initial_omega": (
        ("digrap",), "initial_omega", [-0.1, 1.5, NAN], ValueError,
        r"initial_omega: expected a number in \[0, 1",
    ),
    "radius": (
        ("mars_pgm",), "radius", [-0.1, NAN, "1.0"], ValueError,
        r"radius: expected numbers >= 0, got",
    ),
    "radius_of_a_leaf": (
        ("mars_pgm",), "radius", [{"b": -1.0, "a": 0.1}, {"b": np.asarray([0.1, -1])}],
        ValueError, r"radius: expected numbers >= 0 for 'b', got",
    ),
    "norm": (
        WITH_NORM, "norm", ["l2", np.ones(2)], ValueError,
        r"norm: expected one of \('mars', 'frobenius'\), got ('l2'|array)",
    ),
    "hypergradient": (
        BOTH_FTP, "hypergradient", ["exact"], ValueError,
        r"hypergradient: expected one of .*'active'",
    ),
    "displacement_dtype": (
        BOTH_FTP, DTYPE, ["half precision", "int16", "float8_e5m2"], ValueError,
        r"displacement_dtype: expected None or a floating-point dtype of 16 bits or",
    ),
    "float16_displacement": (
        BOTH_FTP, DTYPE, ["float16"], ValueError,
        r"displacement_dtype: float16 has too small a range",
    ),
    "anchor_memory": (
        BOTH_FTP, "anchor_memory", ["disk"], ValueError,
        r"anchor_memory: expected one of \(None, 'pinned_host'\), got 'disk'",
    ),
    "anchor_of_ftp": (
        BOTH_FTP, "anchor", ["zero"], TypeError, r"anchor: .*, or 'implicit'; got",
    ),
    "anchor": (
        OTHERS, "anchor", ["zero", "implicit", PARAMS], TypeError,
        r"anchor: expected None or a number;",
    ),
    "anchor_as_a_tree": (
        EVERY, "anchor", [PARAMS], TypeError, r"reset_anchor\(tx.init\(params\), pret",
    ),
    "exclude_no_expression": (
        EVERY, "exclude", ["("], ValueError, r"exclude: '\(' is not a regular expr",
    ),
    "exclude_no_strings": (
        EVERY, "exclude", [[1], 1, re.compile("head"), filter(None, ["head"])],
        TypeError, r"exclude: expected a regular expression",
    ),
    "radius_optimizer": (
        (*BOTH_FTP, "tpgm"), "radius_optimizer", [0.01], TypeError,
        r"radius_optimizer: expected an optax",
    ),
    "omega_optimizer": (
        ("digrap",), "omega_optimizer", [0.01], TypeError,
        r"omega_optimizer: expected an optax",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_an_argument_that_cannot_be_right_is_refused_at_once(case):
    names, argument, values, error, words = ARGUMENTS[case]
    for name in names:
        for value in values:
            with pytest.raises(error, match=words):
                MAKE[name](**{argument: value})


@pytest.mark.parametrize("wrapper", [ftp_optax.with_ftp, ftp_optax.with_spd])
def test_what_is_no_optimizer_is_refused(wrapper):
    with pytest.raises(TypeError, match=r"optimizer: expected an optax.*0.1"):
        wrapper(0.1, 1.0)


@pytest.mark.parametrize("kappa", [0, 0.0, 0.5, 1, True, jnp.asarray(0.3)])
def test_any_number_within_its_range_is_a_kappa_and_a_traced_one_too(kappa):
    init = lambda kappa: ftp(kappa).init(PARAMS).radii
    assert init(kappa).shape == jax.jit(init)(kappa).shape == (2,)


# ---- Params and choices of leaves: methods, options, params, exception, words ------

INTEGERS = [jnp.int32, jnp.bool_, jnp.uint8, jnp.complex64, jnp.float8_e4m3fn]
WITH_AXES = tuple(name for name in EVERY if name != "l2_sp")
UNDECLARED = {"blocks": {"query": {"kernel": jnp.ones((3, 4, 2, 2))}}}
scanned = lambda pattern: functools.partial(flax_axes, scanned=pattern)
CHOICES = {
    "would_break_int8": (
        BOTH_FTP, {"anchor": "implicit", DTYPE: "int8"}, None, ValueError,
        "int8 rounds the displacement, an",
    ),
    "would_break_bfloat16": (
        BOTH_FTP, {"anchor": "implicit", DTYPE: "bfloat16"}, None, ValueError,
        "bfloat16 rounds the disp",
    ),
    "would_break_a_place": (
        BOTH_FTP, {"anchor": "implicit", "anchor_memory": "pinned_host"}, None,
        ValueError, "anchor_memory: an implicit anchor is not kept anywhere",
    ),
    "would_break_active": (
        BOTH_FTP, {DTYPE: "int8", "hypergradient": "active"}, None, ValueError,
        "displacement_dtype: int8 keeps the direction of each row",
    ),
    "no_params": (EVERY, {}, None, ValueError, r"params: .*got None"),
    "no_match": (
        EVERY, {"exclude": ["dense", "heads"]}, PARAMS, ValueError,
        r"exclude: .*'heads'.*matches no leaf.*'dense/bias', 'dense/kernel'",
    ),
    "nothing_left_by_exclude": (
        EVERY, {"exclude": "."}, PARAMS, ValueError,
        r"no leaf to constrain.*'dense/kernel'",
    ),
    "nothing_left_by_mask": (
        EVERY, {"mask": {"dense": False}}, PARAMS, ValueError, r"no leaf to constrain",
    ),
    "nothing_left_by_axes": (
        WITH_AXES, {"axes": lambda params: {"": None}}, PARAMS, ValueError,
        r"no leaf to constrain",
    ),
    "nothing_left_by_both": (
        EVERY, {"mask": {"dense": {"kernel": True, "bias": False}}, "exclude": "kern"},
        PARAMS, ValueError, r"no leaf to constrain",
    ),
    "mask_lacks_a_leaf": (
        EVERY, {"mask": {"dense": {"bias": True}}}, PARAMS, ValueError,
        r"mask: .*no entry for the leaf 'dense/kern",
    ),
    "names_that_begin_alike": (
        EVERY, {"mask": {"a": True}}, {"a": {"w": ONES}, "a_2": {"w": ONES}},
        ValueError, r"mask: .*no entry for the leaf 'a_2/w'",
    ),
    **{
        f"mask_of_{value!r}": (
            EVERY, {"mask": {"a": value, "b": True}}, {"a": ONES, "b": ONES},
            (TypeError, ValueError), r"mask: .*'a'",
        )
        for value in ("no", 0, np.ones(2), None)
    },
    **{
        f"leaf_of_{np.dtype(dtype)}": (
            EVERY, {}, {"table": {"index": jnp.ones((3,), dtype)}, "w": ONES},
            TypeError, r"params: .*'table/index'.*dtype.*exclude",
        )
        for dtype in INTEGERS
    },
    "python_integer": (
        EVERY, {}, {"step": 3, "w": ONES}, TypeError,
        r"params: the leaf 'step' has dtype int",
    ),
    "same_path": (
        EVERY, {}, {"a/b": ONES, "a": {"b": ONES}}, ValueError,
        r"params: more than one leaf .* 'a/b'",
    ),
    **{
        f"axis_{axis}_the_leaf_lacks": (
            WITH_AXES, {"axes": LeafAxes(rows=axis)}, {"a": {"b": ONES}}, ValueError,
            rf"axes: .*rows.*{axis}.*'a/b'.*\(2, 3\)",
        )
        for axis in (2, -3)
    },
    "axis_twice": (
        WITH_AXES, {"axes": LeafAxes(rows=(0, 1), layers=-1)}, {"b": ONES}, ValueError,
        r"axes: .*'b'.*more than once",
    ),
    "axes_lack_a_leaf": (
        WITH_AXES, {"axes": {"a": LeafAxes()}}, {"a": ONES, "b": ONES}, ValueError,
        r"axes: .*no entry for the leaf 'b'.*'a'",
    ),
    "axes_of_integers": (
        WITH_AXES, {"axes": lambda params: {"b": (0,)}}, {"b": ONES}, ValueError,
        r"axes: the entry 'b/0' of the tree matches no leaf",
    ),
    **{
        f"rows_of_{rows!r}": (
            WITH_AXES, {"axes": LeafAxes(rows=rows)}, {"b": ONES}, TypeError,
            r"axes: .*integer.*LeafAxes.rows.*'b'",
        )
        for rows in (None, 1.0, "0")
    },
    "patterns_read_once": (
        WITH_AXES, {"axes": scanned(map(str, ["^b"]))}, {"b": ONES}, TypeError,
        r"scanned: expected a regular expression",
    ),
    "undeclared_stack": (
        WITH_AXES, {}, UNDECLARED, ValueError, r"'blocks/query/kernel'.*scanned",
    ),
    "scanned_scalar": (
        WITH_AXES, {"axes": scanned("gain")}, {"gain": jnp.ones(())}, ValueError,
        r"scanned: .*'gain'",
    ),
    "specs_of_no_shard_map": (
        BOTH_FTP, {"specs": P("model")}, {"a": ONES}, ValueError,
        r"specs: .*mesh axes \('model',\).* shard_map",
    ),
    "unconstrained_specs": (
        BOTH_FTP, {"specs": P(P.UNCONSTRAINED)}, {"a": ONES}, ValueError,
        r"specs: .*leaf 'a' has an entry that is neither",
    ),
    **{
        f"narrow_under_an_implicit_anchor_{dtype}": (
            BOTH_FTP, {"anchor": "implicit"},
            {"a": ONES, "bias": jnp.zeros(3, dtype)}, ValueError,
            rf"anchor: the leaf 'bias' has dtype {dtype}",
        )
        for dtype in ("bfloat16", "float16")
    },
    "radius_lacks_a_leaf": (
        ("mars_pgm",), {"radius": {"a": 0.1}}, {"a": ONES, "b": ONES}, ValueError,
        r"radius: .*no entry for the leaf 'b'",
    ),
    "radius_of_other_layers": (
        ("mars_pgm",), {"radius": np.ones(3), "axes": LeafAxes(layers=0)}, {"a": ONES},
        ValueError, r"radius: .*'a' has shape \(3,\), expected.*\(2,\)",
    ),
}  # fmt: skip


def used(method, params):
    """Initialises the method, and updates with it if it has updates."""
    state = method.init(params)
    if isinstance(method, optax.GradientTransformation):
        jax.eval_shape(method.update, params, state, params, grad=params)


@pytest.mark.parametrize("case", CHOICES)
def test_params_or_a_choice_of_leaves_that_cannot_be_right_are_refused(case):
    names, options, params, error, words = CHOICES[case]
    for name in names:
        with pytest.raises(error, match=words):
            used(MAKE[name](**options), params)


def test_what_is_refused_of_a_leaf_is_not_asked_of_excluded_ones():
    for dtype in INTEGERS:
        params = {"index": jnp.ones((3,), dtype), "w": jnp.ones((3,))}
        for name in EVERY:
            used(MAKE[name](exclude="index"), params)
    narrow = {"a": ONES, "bias": jnp.zeros(3, "bfloat16")}
    used(ftp(anchor="implicit", exclude="bias"), narrow)
    used(ftp(exclude="bias", axes=LeafAxes(rows=(0, 1))), narrow)


# ---- Updates, gradients and states that do not belong to the params ----------------

OTHER_NAME = {"dense": {"kernel": jnp.ones((2, 3)), "scale": jnp.zeros((3,))}}
TURNED = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros((3,))}}
TURNED_WORDS = r"'dense/kernel' has shape \(3, 2\), expected \(2, 3\)"
OF_OTHERS = r"state: its anchor was made for other params"
each_link = pytest.mark.parametrize("name", methods.DISTINCT)


def refused(tx, updates, state, params, words, **extra):
    """Refused eagerly, and in the same words while tracing."""
    with pytest.raises(ValueError, match=words) as eager:
        tx.update(updates, state, params, **extra)
    with pytest.raises(ValueError, match=words) as traced:
        jax.eval_shape(tx.update, updates, state, params, **extra)
    assert str(eager.value) == str(traced.value)


def grad_for(name):
    return {"grad": GRADS} if methods.takes_grad(name) else {}


@each_link
def test_updates_that_do_not_fit_the_params_are_refused(name):
    tx, extra = methods.link(name), grad_for(name)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"params: .*update\(grads, state, params\)"):
        tx.update(PARAMS, state, **extra)
    words = r"^updates: .*lacks 'dense/bias'.*has 'dense/scale'"
    refused(tx, OTHER_NAME, state, PARAMS, words, **extra)
    refused(tx, TURNED, state, PARAMS, f"^updates: .*{TURNED_WORDS}", **extra)


@pytest.mark.parametrize("name", ["ftp", "spd"])
def test_a_gradient_that_does_not_fit_the_params_is_refused(name):
    tx = methods.link(name)
    state = tx.init(PARAMS)
    words = r"^grad: .*lacks 'dense/bias'"
    refused(tx, PARAMS, state, PARAMS, words, grad=PARAMS["dense"])
    refused(tx, PARAMS, state, PARAMS, f"^grad: .*{TURNED_WORDS}", grad=TURNED)
    mask = {"dense": {"kernel": True, "bias": False}}
    masked = optax.chain(SGD, optax.masked(tx, mask))
    words = "mask_compatible_extra_args=True"
    refused(masked, PARAMS, masked.init(PARAMS), PARAMS, words, grad=PARAMS)


@each_link
def test_a_state_of_other_params_or_of_another_method_is_refused(name):
    tx, extra = methods.link(name), grad_for(name)
    of = lambda params: tx.init(params)
    refused(tx, PARAMS, of(OTHER_NAME), PARAMS, f"{OF_OTHERS}.*'dense/bias'", **extra)
    refused(tx, PARAMS, of(TURNED), PARAMS, f"{OF_OTHERS}: .*{TURNED_WORDS}", **extra)
    selective = methods.link(name, exclude="bias").init(PARAMS)
    refused(tx, PARAMS, selective, PARAMS, "lacks 'dense/bias'", **extra)
    strangers = [optax.EmptyState(), (of(PARAMS),), ftp_optax.tpgm().init(PARAMS)]
    for stranger in strangers:
        words = rf"state: expected the {type(of(PARAMS)).__name__} that init"
        with pytest.raises(TypeError, match=words):
            tx.update(PARAMS, stranger, PARAMS, **extra)


@pytest.mark.parametrize(("name", "field"), [("ftp", "radii"), ("digrap", "omega")])
def test_a_state_of_other_layers_is_refused(name, field):
    tx = methods.link(name)
    state = tx.init(PARAMS)._replace(**{field: jnp.zeros(3)})
    words = rf"state: it has {field} of shape \(3,\), expected \(2,\)"
    refused(tx, PARAMS, state, PARAMS, words, **grad_for(name))


def test_tpgm_refuses_a_state_that_is_not_its_own():
    method = ftp_optax.tpgm(exclude="bias")
    state, loss = method.init(PARAMS), lambda params: 0.0
    with pytest.raises(TypeError, match=r"state: expected the TPGMState"):
        method.project(PARAMS, optax.EmptyState())
    with pytest.raises(ValueError, match=OF_OTHERS):
        ftp_optax.tpgm().project(PARAMS, state)
    with pytest.raises(ValueError, match=r"state: it has radii of shape \(2,\)"):
        method.update(state._replace(radii=jnp.ones(2)), PARAMS, loss)
    with pytest.raises(ValueError, match=r"params: .*got None"):
        method.project(None, state)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_an_implicit_anchor_is_not_read_from_a_rounded_displacement(dtype):
    state = ftp(displacement_dtype=dtype).init(PARAMS)
    words = f"state: its displacement is in {dtype}"
    refused(ftp(anchor="implicit"), PARAMS, state, PARAMS, words, grad=GRADS)


# ---- Readers of a state ------------------------------------------------------------


@pytest.mark.parametrize("read", [radii, summary, reset_anchor])
def test_a_state_without_ftp_or_params_of_another_model_are_refused(read):
    with pytest.raises(ValueError, match=r"state: it holds no FTPState"):
        read(optax.adamw(0.1).init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match=r"params: .*'dense/kernel' of shape \(2, 3\)"):
        read(ftp().init(PARAMS), TURNED)


@pytest.mark.parametrize("name", ["digrap", "tpgm"])
def test_a_state_that_learned_about_its_anchor_is_not_reset(name):
    state = MAKE[name]().init(PARAMS), MAKE["with_ftp"]().init(PARAMS)
    with pytest.raises(ValueError, match=r"state: .*(DiGraP|TPGM)State.* Call init"):
        reset_anchor(state, PARAMS)
