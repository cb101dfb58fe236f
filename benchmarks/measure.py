"""What is measured? Steps in turns by the clock, and each by the compiler's account."""

import functools
import gc
import itertools
import os
import pathlib
import platform
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import cost
from experiments.run_folder import versions

DRAWS = 4000  # of the bootstrap
WARM_UP = 3  # steps before the first block
BLOCK_SECONDS = 0.3  # about
PLAIN, COPYING = "plain", "copying"  # AdamW; a pass over one large array

Block = Callable[[int], float]  # takes so many steps; returns the seconds per step
Ratio = dict[str, float]  # `median` over rounds, `low` and `high` of its 95 % interval
Account = dict[str, Any]
"""All that is known of a contender: what `cost.of_step` says; `device` and `host`, the
bytes of its state after some steps; `programs`, how many compilations its steps needed;
and `time` and `compile`, the seconds of each finished round."""


class StoppedError(Exception):
    """Ends a benchmark with one line; what was finished is reported."""


# ---- A compiled step -----------------------------------------------------------------


class Step:
    """A compiled step, which goes on from what it returned, from block to block."""

    def __init__(
        self, step: Callable, params: Any, state: Any, *batches: Sequence[Any]
    ):
        """Compiles; params and state are donated.

        Args:
          step: `(params, state, *input) -> (params, state, *others)`; what is donated
            has to come back in this order, or every buffer would be copied.
          params: to start from.
          state: likewise.
          batches: taken in turn.
        """
        self._jitted = jax.jit(step, donate_argnums=(0, 1))
        self._batches = itertools.cycle(batches)
        shapes = jax.tree.map(_described, (params, state, *batches[0]))
        self.compiled = self._jitted.lower(*shapes).compile()
        self.cost = cost.of_step(self.compiled, params, state)
        self.compile_anew = functools.partial(compilation, step, shapes)
        self.results: tuple[Any, ...] = params, state

    def __call__(self, steps: int) -> float:
        """Takes steps, waits for the results, and returns the seconds per step."""
        results = self.results
        began = time.perf_counter()
        for _ in range(steps):
            results = self._jitted(*results[:2], *next(self._batches))
        jax.block_until_ready(results)
        seconds = time.perf_counter() - began
        self.results = results
        return seconds / steps

    def account(self) -> Account:
        """What is known of it without a clock, after the steps so far."""
        state = jax.tree.leaves(self.results[1])
        device = cost.num_bytes([leaf for leaf in state if cost.on_device(leaf)])
        host = cost.num_bytes(state) - device
        programs: Any = self._jitted
        programs = programs._cache_size()
        return self.cost | {"device": device, "host": host, "programs": programs}


def compilation(step: Callable, shapes: Any, times: int = 1) -> float:
    """Seconds in which a step compiles, from tracing on, with nothing remembered."""
    del times  # each is a block of its own
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    compilation_cache.reset_cache()  # it asks once whether it is enabled
    jitted = jax.jit(step, donate_argnums=(0, 1))
    began = time.perf_counter()
    jitted.lower(*shapes).compile()
    seconds = time.perf_counter() - began
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()
    return seconds


def _described(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    # A leaf that may go wherever the others are must stay so; one in host memory not.
    free = not leaf.committed and cost.on_device(leaf)
    sharding = None if free else leaf.sharding
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type
    )


# ---- Contenders in turns -------------------------------------------------------------


class Case(NamedTuple):
    """What is measured side by side, such as all optimizers on one tree.

    Attributes:
      label: its name in a plot.
      title: that of its table.
      makers: by contender what makes its block, a `Step` or another's.
      rounds: how often each has its turn.
      compile_rounds: how often each is compiled.
      most_steps: of a block.
      facts: what every account says as well.
      accounts: of what was measured elsewhere.
    """

    label: str
    title: str
    makers: Mapping[str, Callable[[], Block]]
    rounds: int = 0
    compile_rounds: int = 0
    most_steps: int = 40
    facts: Mapping[str, Any] = {}
    accounts: Mapping[str, Account] = {}


def take_turns(case: Case, accounts: dict[str, Account]) -> Iterator[str]:
    """Fills in an account for each contender, round by round; says what it has done.

    Where nothing is timed no contender has to wait for its turn in memory.
    """
    blocks: dict[str, Block] = {}
    anew: dict[str, Block] = {}
    steps: dict[str, int] = {}
    for name, make in case.makers.items():
        block = make()
        block(min(WARM_UP, case.most_steps))
        accounts[name] = {"time": [], "compile": [], **case.facts}
        if isinstance(block, Step):
            accounts[name] |= block.account()
            anew[name] = block.compile_anew
        if case.rounds:
            blocks[name] = block
            steps[name] = round(min(case.most_steps, 1 + BLOCK_SECONDS / block(1)))
        del block
        yield f"{name} compiled"
    for i, seconds in enumerate(interleaved(blocks, case.rounds, steps), start=1):
        for name, of_step in seconds.items():
            accounts[name]["time"].append(of_step)
        yield f"round {i} of {case.rounds}"
    for name, block in blocks.items():
        accounts[name] |= block.account() if isinstance(block, Step) else {}
        del block
    blocks.clear()  # before the compiler needs some memory
    gc.collect()
    once = dict.fromkeys(anew, 1)
    for i, seconds in enumerate(interleaved(anew, case.compile_rounds, once), start=1):
        for name, of_compilation in seconds.items():
            accounts[name]["compile"].append(of_compilation)
        yield f"compiled anew, {i} of {case.compile_rounds}"


def interleaved(
    contenders: Mapping[str, Block], rounds: int, steps: Mapping[str, int]
) -> Iterator[dict[str, float]]:
    """Gives every contender one block of steps per round, in an order drawn anew.

    Yields:
      Seconds per step by name, once for each finished round.
    """
    draw = random.Random(0)
    for _ in range(rounds):
        order = draw.sample(list(contenders), len(contenders))
        yield {name: contenders[name](steps[name]) for name in order}


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compares round by round, so that a slow spell hurts both; bootstraps medians."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


# ---- Columns: figures of a contender, most of them beside another's ------------------


def multiple(own: Account, other: Account, key: str) -> Any:
    rounds = isinstance(own[key], list)
    return ratio(own[key], other[key]) if rounds else own[key] / other[key]


count = lambda own, _, key: own[key]
rate = lambda own, _, key: own["images"] / float(np.median(own[key]))
speed = lambda own, _, key: own["traffic"] / float(np.median(own[key])) / 1e9
copies = lambda own, _, key: own[key] / own["params"]
beyond = lambda own, other, key: (own[key] - other[key]) / own["params"]
of_bytes = lambda own, other, key: (
    multiple(own, other, key)["median"] / multiple(own, other, "traffic")
)


class Column(NamedTuple):
    """A figure of a contender.

    Attributes:
      of: what it makes of the contender's account, another's, and a quantity.
      quantities: what has to be in the account, the first one in the other's as well.
      legend: what it is; "/" divides.
      beside: whose the other account is.
    """

    of: Callable[[Account, Account, str], Any]
    quantities: str
    legend: str
    beside: str = PLAIN


COLUMNS = {
    "images/s": Column(rate, "time images", "median"),
    "time": Column(multiple, "time", "of a step / AdamW's"),
    "of L2-SP": Column(multiple, "time", "time / L2-SP's", "l2-sp"),
    "of FTP": Column(multiple, "time", "time / FTP's", "ftp"),
    "of published": Column(multiple, "time", "time / its", "published"),
    "GB/s": Column(speed, "time traffic", "bytes read and written / time"),
    "of limit": Column(of_bytes, "time traffic", "time / that of its bytes", COPYING),
    "compile": Column(multiple, "compile", "time from tracing on / AdamW's"),
    "passes": Column(copies, "traffic", "bytes read and written / params"),
    "traffic": Column(multiple, "traffic", "bytes read and written / AdamW's"),
    "copies": Column(count, "copies", "of arrays of a kernel's size"),
    "state": Column(copies, "state", "kept between steps / params"),
    "device": Column(beyond, "device", "state there beyond AdamW's / params"),
    "host": Column(beyond, "host", "the same there"),
    "memory": Column(multiple, "memory", "held while a step runs / AdamW's"),
    "temporaries": Column(copies, "temporaries", "a step's / params"),
    "FLOPs": Column(multiple, "flops", "of a step / AdamW's"),
    "programs": Column(count, "programs", "compilations over all steps"),
}


def figure(accounts: Mapping[str, Account], who: str, column: str) -> Any:
    """One figure of a contender; `None` where one of the two was not measured so."""
    of, quantities, _, other = COLUMNS[column]
    own, other = accounts.get(who, {}), accounts.get(other, {})
    first, *more = quantities.split()
    if any(account.get(first, []) == [] for account in (own, other)):
        return None
    return of(own, other, first) if own.keys() >= {*more} else None


# ---- The machine ---------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What it is, its load, and versions; nothing that names an owner."""
    model = _line_of("/proc/cpuinfo", r"^model name\s*: (.+)$")
    cores = getattr(os, "sched_getaffinity", None)  # not on every system
    device, count = jax.devices()[0].device_kind, jax.device_count()
    where = f"{count} x {device}"
    if jax.default_backend() == "cpu":
        model = model or platform.processor() or platform.machine()
        where = f"{model}, {len(cores(0)) if cores else os.cpu_count()} cores"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"machine": where, "load": load, **versions()}


def free_bytes() -> int | None:
    """Memory that arrays may still take, where it is known."""
    if of_device := jax.devices()[0].memory_stats():
        return of_device["bytes_limit"] - of_device["bytes_in_use"]
    free = _line_of("/proc/meminfo", r"^MemAvailable: +(\d+) kB$")
    return 1024 * int(free) if free else None


def _line_of(path: str, pattern: str) -> str | None:
    file = pathlib.Path(path)
    match = file.exists() and re.search(pattern, file.read_text(), re.MULTILINE)
    return " ".join(match[1].split()) if match else None
