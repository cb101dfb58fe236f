"""Trajectories recorded from the published PyTorch implementation are matched."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftp_optax import ftp, radii, torch_axes, with_ftp

TRAJECTORIES = sorted((pathlib.Path(__file__).parent / "golden").glob("*.npz"))
TOLERANCE = 1e-5


def base_optimizer(meta):
    if meta["optimizer"] == "adamw":
        return optax.adamw(meta["lr"], weight_decay=meta["weight_decay"])
    return optax.chain(
        optax.add_decayed_weights(meta["weight_decay"]),
        optax.sgd(meta["lr"], meta["momentum"], meta["nesterov"]),
    )


def load(path):
    with np.load(path) as file:
        data = {key: file[key] for key in file}
    meta = json.loads(str(data["meta"]))
    trees = {
        field: {k[len(field) + 1 :]: v for k, v in data.items() if k.startswith(field)}
        for field in ("init", "grad", "param")
    }
    return meta, trees, data["radius"], list(data["radius_names"])


def make_step(meta, form, **more):
    options = {
        **more,
        "kappa": meta["kappa"],
        "exclude": [f"^{name}$" for name in meta["exclude"]],
        "axes": torch_axes,
    }
    if form == "with_ftp":
        tx = with_ftp(base_optimizer(meta), **options)
        give = lambda grads: {}
    else:
        tx = optax.chain(base_optimizer(meta), ftp(**options))
        give = lambda grads: {"grad": grads}

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params, **give(grads))
        params = optax.apply_updates(params, updates)
        return (params, state), (params, radii(state, params, axes=torch_axes))

    return tx, step


def run_eager(step, carry, grads, num_steps):
    seen = []
    for t in range(num_steps):
        carry, out = step(carry, jax.tree.map(lambda g, t=t: g[t], grads))
        seen.append(out)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)


def run_jit(step, carry, grads, num_steps):
    return run_eager(jax.jit(step), carry, grads, num_steps)


def run_scan(step, carry, grads, num_steps):
    del num_steps
    return jax.lax.scan(step, carry, grads)[1]


# The place of the anchor changes nothing; the precision of the displacement does.
EXACT = {
    "implicit anchor": {"anchor": "implicit"},
    "host anchor": {"anchor_memory": "pinned_host"},
}
ROUNDED = {
    "bfloat16": {"displacement_dtype": "bfloat16"},
    "int8": {"displacement_dtype": "int8"},
    "int8, host anchor": {
        "displacement_dtype": "int8",
        "anchor_memory": "pinned_host",
    },
}


def test_there_are_trajectories_to_match():
    assert len(TRAJECTORIES) == 4


@pytest.mark.parametrize("run", [run_eager, run_jit, run_scan])
@pytest.mark.parametrize("form", ["with_ftp", "ftp"])
@pytest.mark.parametrize("path", TRAJECTORIES, ids=lambda path: path.stem)
def test_parameters_and_radii_match_the_published_code_at_every_step(path, form, run):
    assert_matches(path, form, run, TOLERANCE)


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize("path", TRAJECTORIES, ids=lambda path: path.stem)
def test_an_anchor_that_is_implicit_or_elsewhere_matches_as_closely(path, mode):
    assert_matches(path, "with_ftp", run_jit, TOLERANCE, **EXACT[mode])


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize("path", TRAJECTORIES, ids=lambda path: path.stem)
def test_a_rounded_displacement_matches_to_a_thousandth(path, mode):
    assert_matches(path, "with_ftp", run_jit, 1e-3, **ROUNDED[mode])


def assert_matches(path, form, run, tolerance, **options):
    """Parameters and radii are those recorded, to `tolerance`, at every step."""
    meta, trees, expected_radii, names = load(path)
    tx, step = make_step(meta, form, **options)
    params = jax.tree.map(jnp.asarray, trees["init"])
    grads = jax.tree.map(jnp.asarray, trees["grad"])

    found, found_radii = run(step, (params, tx.init(params)), grads, meta["steps"])

    assert sorted(found_radii) == sorted(names)
    for name, expected in trees["param"].items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance)
    for i, name in enumerate(names):
        np.testing.assert_allclose(
            found_radii[name], expected_radii[:, i], rtol=0, atol=tolerance
        )
