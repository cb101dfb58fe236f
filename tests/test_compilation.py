"""FTP compiled, mapped and donated: the same types, programs, numbers and buffers."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import ftp_optax
from contract_runs import (
    OPTIMIZERS,
    assert_same,
    each_optimizer,
    feed,
    gradients,
    is_weight,
    pretrained,
)
from ftp_optax import with_ftp


@each_optimizer
def test_a_second_step_compiles_nothing(tx, caplog):
    params = pretrained()
    # Arrays in the host's memory are bound to their device, and after a step beside
    # them so is all else: to jit that is another call, once.
    steps = 2 + (tx is OPTIMIZERS["host anchor"])
    *before, last = gradients(steps, params)

    @jax.jit
    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for g in before:
        params, state = step(params, state, g)
    with jax.log_compiles():
        jax.block_until_ready(step(params, state, last))
    assert not [r for r in caplog.records if "ompil" in r.getMessage()]
    with jax.log_compiles():
        jax.jit(lambda x: x + 41.0)(1.0)
    assert [r for r in caplog.records if "ompil" in r.getMessage()]


@each_optimizer
def test_an_eager_run_equals_a_compiled_one(tx):
    params = pretrained()
    grads = gradients(8, params)
    eager, eager_state = feed(tx, params, grads, jit=False)
    compiled, compiled_state = feed(tx, params, grads)
    # Compiled, a product and a sum may be rounded once, where two eager calls round
    # twice: the last digit differs.
    assert_same(eager, compiled, rtol=1e-6, atol=1e-6)
    assert_same(eager_state[1].radii, compiled_state[1].radii, rtol=1e-4)


def pointers(tree: Any) -> list[int]:
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]


def initialisations(tx: Any, params: Any) -> dict[str, Any]:
    state = tx.init(params)
    return {
        "eager": state,
        "compiled": jax.jit(tx.init)(params),
        "reset": ftp_optax.reset_anchor(state, params),
    }


@pytest.mark.parametrize("init", ["eager", "compiled", "reset"])
def test_params_and_state_can_be_donated_from_the_first_step_on(init):
    params = pretrained()
    tx = with_ftp(optax.adamw(1e-2))
    state = initialisations(tx, params)[init]
    buffers = pointers((params, state))
    assert len(set(buffers)) == len(buffers)
    first, second = gradients(2, params)
    expected, _ = feed(tx, params, [first, second])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    for g in (first, second):
        donated = jax.tree.leaves((params, state))
        params, state = step(params, state, g)
        # Vectors that a step only writes are no arguments of the compiled program.
        assert all(leaf.is_deleted() for leaf in donated if is_weight(leaf))
    assert_same(params, expected)


# In the default mode the limit is 19.5, in `test_ftp.py`; 10 are adamw's own.
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"displacement_dtype": "int8"}, 25.0),
        ({"displacement_dtype": "bfloat16"}, 22.5),
        ({"anchor": "implicit"}, 21.5),
    ],
    ids=["int8", "bfloat16", "implicit"],
)
def test_a_mode_copies_no_leaf_and_makes_few_passes_over_the_params(options, most):
    params = {f"{i}/kernel": jnp.ones((64, 96)) for i in range(6)}
    tx = with_ftp(optax.adamw(1e-3), **options)

    def step(params: Any, state: Any, g: Any):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(params, tx.init(params), params).compile()
    assert not re.findall(r"\w+\[64,96\]\S* copy\(", compiled.as_text())
    size = sum(leaf.nbytes for leaf in params.values())
    assert compiled.cost_analysis()["bytes accessed"] / size < most


@each_optimizer
def test_an_abstract_state_has_the_types_of_a_real_one(tx):
    params = pretrained()
    abstract = jax.eval_shape(tx.init, params)
    shapes = jax.eval_shape(tx.init, jax.eval_shape(lambda: params))
    _, later = feed(tx, params, gradients(2, params))

    def types(tree: Any) -> Any:
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    assert types(abstract) == types(tx.init(params)) == types(later) == types(shapes)


@each_optimizer
def test_an_ensemble_under_vmap_equals_separate_runs(tx):
    members = [jax.tree.map(lambda w, f=f: w * f, pretrained()) for f in (1, 2, 3)]
    own_grads = [gradients(5, members[0], drift) for drift in (0.1, 1.0, 3.0)]

    def stack(*trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    many = optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
    stacked_grads = [stack(*step) for step in zip(*own_grads, strict=True)]
    together, states = feed(many, stack(*members), stacked_grads)
    for i, (member, grads) in enumerate(zip(members, own_grads, strict=True)):
        alone, state = feed(tx, member, grads)
        # Reductions of a batch may run in another order: rounding only.
        mine, my_state = jax.tree.map(lambda x, i=i: x[i], (together, states))
        assert_same(mine, alone, rtol=1e-6, atol=1e-6)
        assert_same(my_state[1].radii, state[1].radii, rtol=1e-4)
