"""Training that stops, and goes on from a checkpoint in another process.

Run as a script, this file is that other process.
"""

import functools
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ftp_optax
from ftp_optax import with_ftp

ocp = pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")
nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")

STEPS, SAVED_AT = 9, 4
TX = with_ftp(optax.adamw(1e-2, weight_decay=0.1), exclude="^head/")


class Model(nnx.Module):
    def __init__(self, rngs: Any):
        self.body = nnx.Linear(4, 6, rngs=rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.body(x)))


def pretrained() -> Any:
    return nnx.to_pure_dict(nnx.state(Model(nnx.Rngs(0)), nnx.Param))


def batch(step: int) -> tuple[jax.Array, jax.Array]:
    x = np.random.default_rng(step).normal(size=(16, 4)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(np.stack([x[:, 0], x.sum(axis=1)], axis=1))


def loss_of(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((model(x) - y) ** 2)


# The two loops. Each has a fresh start, a run over some steps, and its arrays by name.


def start_functional() -> Any:
    params = pretrained()
    return {"params": params, "state": TX.init(params)}


@functools.partial(jax.jit, donate_argnums=0)
def functional_step(loop: Any, x: jax.Array, y: jax.Array) -> Any:
    def loss(params: Any) -> jax.Array:
        model = Model(nnx.Rngs(0))
        nnx.update(model, params)
        return loss_of(model, x, y)

    grads = jax.grad(loss)(loop["params"])
    updates, state = TX.update(grads, loop["state"], loop["params"])
    return {"params": optax.apply_updates(loop["params"], updates), "state": state}


def run_functional(loop: Any, steps: range) -> Any:
    for i in steps:
        loop = functional_step(loop, *batch(i))
    return loop


def start_nnx() -> Any:
    model = Model(nnx.Rngs(0))
    return nnx.state((model, nnx.Optimizer(model, TX, wrt=nnx.Param)))


@nnx.jit(donate_argnums=(0, 1))
def nnx_step(model: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> None:
    optimizer.update(model, nnx.grad(loss_of)(model, x, y))


def run_nnx(loop: Any, steps: range) -> Any:
    model = Model(nnx.Rngs(1))
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    nnx.update((model, optimizer), loop)
    for i in steps:
        nnx_step(model, optimizer, *batch(i))
    return nnx.state((model, optimizer))


LOOPS = {
    "functional": (start_functional, run_functional),
    "nnx": (start_nnx, run_nnx),
}


def arrays(loop: Any) -> dict[str, np.ndarray]:
    paths_and_leaves = jax.tree_util.tree_leaves_with_path(loop)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.array(leaf)
        for path, leaf in paths_and_leaves
    }


def go_on_elsewhere(folder: pathlib.Path) -> None:
    """What the other process does: restores both loops and runs the remaining steps."""
    with ocp.StandardCheckpointer() as checkpointer:
        for name, (start, run) in LOOPS.items():
            loop = checkpointer.restore(folder / name, start())
            found: Any = arrays(run(loop, range(SAVED_AT, STEPS)))
            np.savez(folder / f"{name}.npz", **found)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """The final arrays of both loops, saved here and continued in another process."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with ocp.StandardCheckpointer() as checkpointer:
        for name, (start, run) in LOOPS.items():
            checkpointer.save(folder / name, run(start(), range(SAVED_AT)))
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for name in LOOPS:
        with np.load(folder / f"{name}.npz") as file:
            found[name] = dict(file)
    return found


@pytest.mark.parametrize("name", LOOPS)
def test_a_run_resumed_in_another_process_is_identical_to_an_uninterrupted_one(
    name, resumed
):
    start, run = LOOPS[name]
    expected = arrays(run(start(), range(STEPS)))
    actual = resumed[name]
    assert list(actual) == list(expected)
    for path, array in expected.items():
        assert actual[path].dtype == array.dtype
        np.testing.assert_array_equal(actual[path], array, err_msg=path)
    # All of FTP's state was there to be lost, and the head has none of it.
    for field in ("anchor", "radii", "radius_state", "displacement"):
        paths = [path for path in actual if f"/{field}" in path]
        assert paths
        assert not [path for path in paths if "head" in path]


def test_a_run_resumed_without_the_state_of_ftp_falls_back_to_the_anchor(resumed):
    before = run_functional(start_functional(), range(SAVED_AT))
    adamw_state, ftp_state = before["state"]
    radii = ftp_optax.radii(ftp_state, before["params"])
    assert min(radii.values()) > 0.01
    # The published code restores the base optimizer, and takes its anchor anew.
    _, new_ftp_state = start_functional()["state"]
    lost = {"params": before["params"], "state": (adamw_state, new_ftp_state)}
    after: Any = run_functional(lost, range(SAVED_AT, SAVED_AT + 1))
    anchor = arrays(pretrained()["body"])
    fallen = arrays(after["params"]["body"])
    for name, w_0 in anchor.items():
        np.testing.assert_allclose(fallen[name], w_0, rtol=2e-7, atol=2e-8)
    final = arrays(run_functional(after, range(SAVED_AT + 1, STEPS)))
    kernel = resumed["functional"]["params/body/kernel"]
    assert np.max(np.abs(final["params/body/kernel"] - kernel)) > 1e-3


if __name__ == "__main__":
    go_on_elsewhere(pathlib.Path(sys.argv[1]))
