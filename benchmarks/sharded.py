"""What does an update cost on several devices? One number of them in one process.

`benchmarks.scaling` starts this with as many simulated devices as it asks for. Every
parameter is spread over them along its longest axis that they divide (FSDP); what is
counted is one device's share. Prints JSON.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import cost, trees
from benchmarks.modes import PLAIN
from benchmarks.scaling_series import FTP, WARM_UP, contender, in_columns
from benchmarks.timing import interleaved
from benchmarks.update_step import Update

JOB = "benchmarks.sharded"
ROOT = pathlib.Path(__file__).parents[1]


class ChildError(RuntimeError):
    """The process with several devices failed."""


def measured(devices: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Runs this module in a process of its own, with so many simulated devices.

    Args:
      devices: how many.
      asked: options of the process, by name.

    Returns:
      `x`, the number of devices, and by contender `seconds`, `traffic`, `collective`,
      `state` (bytes of one device) and `compilations`.

    Raises:
      ChildError: the process failed; with its last words.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
    }
    options = [f"--{name}={value}" for name, value in asked.items()]
    command = [sys.executable, "-m", JOB, *options]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        why = said[-1] if said else f"exit status {done.returncode}"
        raise ChildError(f"{devices} devices: {why}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures on the devices that there are, and prints the point as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m {JOB}", description=__doc__)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--params", type=float, required=True, help="how many")
    parser.add_argument("--leaves", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    shapes = trees.even(args.params, args.leaves)
    draw = lambda seed: spread(trees.drawn(shapes, seed, 0.02), mesh)
    grads = draw(args.seed + 1)
    updates = {
        name: Update(contender(name, args.mode), draw(args.seed), grads)
        for name in (PLAIN, FTP)
    }
    for update in updates.values():
        update.run(WARM_UP)
    rounds = list(interleaved(updates, args.rounds, 2, args.seed))
    point = in_columns(updates, rounds)
    for name, update in updates.items():
        text = update.compiled.as_text() or ""
        point[name]["collective"] = cost.collective_bytes(text)
        point[name]["state"] = bytes_of_one_device(update.carry[1])
    print(json.dumps({"x": jax.device_count(), **point}))
    return 0


def spread(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """The arrays, each over all devices along its longest axis that they divide."""

    def place(leaf: jax.Array) -> jax.Array:
        divided = [a for a in range(leaf.ndim) if leaf.shape[a] % mesh.size == 0]
        spec: list[str | None] = [None] * leaf.ndim
        if divided:
            spec[max(divided, key=lambda axis: leaf.shape[axis])] = "data"
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

    return jax.tree.map(place, tree)


def bytes_of_one_device(tree: Any) -> int:
    """Bytes of a tree's arrays that the first device holds."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    sys.exit(main())
