"""Training that stops, and goes on from a checkpoint in another process.

Run as a script, this file is that other process.
"""

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

import trees
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


def start(seed: int) -> Any:
    model = Model(nnx.Rngs(seed))
    return model, nnx.Optimizer(model, TX, wrt=nnx.Param)


@nnx.jit(donate_argnums=(0, 1))
def step(model: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> None:
    loss = lambda model: jnp.mean((model(x) - y) ** 2)
    optimizer.update(model, nnx.grad(loss)(model))


def run(loop: Any, steps: range) -> Any:
    """The state of model and optimizer after steps whose data their number decides."""
    for i in steps:
        x = np.random.default_rng(i).normal(size=(16, 4)).astype(np.float32)
        step(*loop, jnp.asarray(x), jnp.asarray(np.stack([x[:, 0], x.sum(1)], axis=1)))
    return nnx.state(loop)


def go_on_elsewhere(folder: pathlib.Path) -> None:
    """What the other process does: restores the loop and runs the remaining steps."""
    loop = start(1)
    with ocp.StandardCheckpointer() as checkpointer:
        nnx.update(loop, checkpointer.restore(folder / "saved", nnx.state(loop)))
    np.savez(folder / "end.npz", **trees.flat(run(loop, range(SAVED_AT, STEPS))))


def test_a_run_resumed_in_another_process_is_identical_to_an_uninterrupted_one(
    tmp_path,
):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", run(start(0), range(SAVED_AT)))
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "end.npz") as file:
        resumed = dict(file)
    expected = trees.flat(run(start(0), range(STEPS)))
    assert list(resumed) == list(expected)
    for path, array in expected.items():
        assert resumed[path].dtype == array.dtype
        np.testing.assert_array_equal(resumed[path], array, err_msg=path)
    # All of FTP's state was there to be lost, and the head has none of it.
    for field in ("anchor", "radii", "radius_state", "displacement"):
        paths = [path for path in resumed if f"/{field}" in path]
        assert paths
        assert not [path for path in paths if "head" in path]


if __name__ == "__main__":
    go_on_elsewhere(pathlib.Path(sys.argv[1]))
