"""How is a step timed, compiled and compared, and on what machine?"""

import importlib.metadata
import itertools
import os
import pathlib
import platform
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy.stats
from jax.experimental.compilation_cache import compilation_cache

import ftp_optax
from benchmarks import cost

DRAWS = 4000  # of the bootstrap
PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy")

Block = Callable[[int], float]  # takes so many steps; returns the seconds per step
Rounds = Sequence[Mapping[str, float]]  # seconds per step by contender, in each round
Ratio = dict[str, float]  # `median` over rounds, `low` and `high` of its 95 % interval


def interleaved(
    contenders: Mapping[str, Block],
    rounds: int,
    steps: int | Mapping[str, int],
    seed: int = 0,
) -> Iterator[dict[str, float]]:
    """Gives every contender one block of steps per round, in an order drawn anew.

    Yields:
      Seconds per step by name, once for each finished round.
    """
    draw = random.Random(seed)
    for _ in range(rounds):
        seconds = {}
        for name in draw.sample(list(contenders), len(contenders)):
            block = steps if isinstance(steps, int) else steps[name]
            seconds[name] = contenders[name](block)
        yield {name: seconds[name] for name in contenders}


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compares round by round, so that a slow spell hurts both; bootstraps medians."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def between(rounds: Rounds, name: str, other: str) -> Any:
    """One contender's time in multiples of another's; `None` if one took no part."""
    if not rounds or not {name, other} <= rounds[0].keys():
        return None
    return ratio([r[name] for r in rounds], [r[other] for r in rounds])


def slope(x: Sequence[float], y: Sequence[float]) -> Ratio:
    """The slope of log y over log x by least squares, with its 95 % interval.

    1 is linear, 0 constant, -1 a fair share. The interval is Student's, from how far
    the points lie from the line; with two points there is none.
    """
    line: Any = scipy.stats.linregress(np.log(x), np.log(y))
    free = len(x) - 2
    reach = float(scipy.stats.t.ppf(0.975, free) * line.stderr) if free else 0.0
    reach = reach if np.isfinite(reach) else 0.0  # of what does not grow at all
    middle = float(line.slope)
    return {"median": middle, "low": middle - reach, "high": middle + reach}


class Step:
    """A compiled step, which goes on from what it returned, from block to block."""

    def __init__(self, step: Callable, params: Any, state: Any, *inputs: Sequence[Any]):
        """Compiles; params and state are donated.

        Args:
          step: `(params, state, *input) -> (params, state, *others)`; what is donated
            has to come back in this order, or every buffer would be copied.
          params: to start from.
          state: likewise.
          inputs: taken in turn.
        """
        self._jitted = jax.jit(step, donate_argnums=(0, 1))
        self._inputs = itertools.cycle(inputs)
        self.shapes = jax.tree.map(_described, (params, state, *inputs[0]))
        self.compiled = self._jitted.lower(*self.shapes).compile()
        self.cost = cost.of_step(self.compiled, params, state)
        self.results: tuple[Any, ...] = params, state

    def __call__(self, steps: int) -> float:
        """Takes steps, waits for the results, and returns the seconds per step."""
        results = self.results
        began = time.perf_counter()
        for _ in range(steps):
            results = self._jitted(*results[:2], *next(self._inputs))
        jax.block_until_ready(results)
        seconds = time.perf_counter() - began
        self.results = results
        return seconds / steps

    @property
    def programs(self) -> int:
        """How many compilations the steps so far have needed."""
        return self._jitted._cache_size()  # pyright: ignore[reportAttributeAccessIssue]


def compiling(step: Callable, shapes: Any) -> Block:
    """What compiles a step for `Step.shapes` anew each time, from tracing on."""

    def run(times: int) -> float:
        seconds, enabled = 0.0, jax.config.values["jax_enable_compilation_cache"]
        jax.config.update("jax_enable_compilation_cache", False)
        for _ in range(times):
            jax.clear_caches()
            compilation_cache.reset_cache()  # it asks once whether it is enabled
            jitted = jax.jit(step, donate_argnums=(0, 1))
            began = time.perf_counter()
            jitted.lower(*shapes).compile()
            seconds += time.perf_counter() - began
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
        return seconds / times

    return run


def _described(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    # A leaf that may go wherever the others are must stay so; one in host memory not.
    free = not leaf.committed and cost.on_device(leaf)
    sharding = None if free else leaf.sharding
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type
    )


def machine() -> dict[str, Any]:
    """Processor, cores, accelerator, load and versions; nothing that names an owner."""
    model = _line_of("/proc/cpuinfo", r"^model name\s*: (.+)$")
    cores = getattr(os, "sched_getaffinity", None)  # not on every system
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(cores(0)) if cores else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "load": load(),
        "python": platform.python_version(),
        "ftp_optax": ftp_optax.__version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def load() -> float | None:
    """Mean number of runnable processes over the last minute, where it is known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def free_bytes() -> int | None:
    """Memory that arrays may still take, where it is known."""
    if of_device := jax.devices()[0].memory_stats():
        return of_device["bytes_limit"] - of_device["bytes_in_use"]
    free = _line_of("/proc/meminfo", r"^MemAvailable: +(\d+) kB$")
    return 1024 * int(free) if free else None


def _line_of(path: str, pattern: str) -> str | None:
    file = pathlib.Path(path)
    found = file.exists() and re.search(pattern, file.read_text(), re.MULTILINE)
    return " ".join(found[1].split()) if found else None
