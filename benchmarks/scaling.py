"""Show how the cost of an update grows: with parameters, with leaves, with devices.

Plain AdamW and AdamW within FTP update trees of kernels of one size, round by round
in turn. A line through the logarithms tells the growth: a slope of 1 is linear. The
devices are simulated on this one machine, so time cannot fall with their number;
what counts there is the work of each by the compiler's account.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from matplotlib.figure import Figure

from benchmarks import contenders, measure, show
from benchmarks.contenders import EXPLICIT, MODES
from benchmarks.measure import PLAIN, Account, Case, Ratio, StoppedError
from benchmarks.show import Option, Results

QUANTITIES = {  # what grows along an axis
    "params": ("time", "traffic"),
    "leaves": ("time", "compile"),
    "devices": ("traffic", "state"),
}
OPTIONS = {
    "along": Option(list(QUANTITIES), "which growth", QUANTITIES),
    "mode": Option(EXPLICIT, "of FTP", MODES),
    "params": Option([1.0, 3.0, 10.0, 30.0, 100.0, 300.0], "in millions", least=2),
    "leaves": Option([10, 30, 100, 300, 1000], "numbers of them", least=2),
    "devices": Option([1, 2, 4, 8], "simulated", least=2),
    "fixed_params": Option(10.0, "in millions, along leaves and devices"),
    "fixed_leaves": Option(24, "along params and devices"),
    "compile_rounds": Option(2, "how often each is compiled, along leaves"),
    "rounds": Option(7, "how often both have their turn, at each point"),
}
SMOKE = {"params": [0.01, 0.03, 0.1], "leaves": [4, 8, 16], "devices": [1, 2]}
SMOKE |= {"fixed_params": 0.1, "fixed_leaves": 4, "compile_rounds": 1, "rounds": 3}
# Gradients; params and state of AdamW, and of FTP; temporaries: bytes a parameter.
BYTES_HELD = 4 * (1 + 3 + 5 + 1)
SHARE = 0.8  # of the free memory that may be taken
LEGEND = (
    "FTP's, in multiples of its first row and of AdamW's. Slopes of the logarithms: 1"
    " is linear, -1 a fair share for each device; end: between the last two rows."
    " Traffic and state are those of one of the simulated devices; between: what they"
    " send each other, in % of traffic. In brackets: 95 % intervals."
)


def cases(args: argparse.Namespace, notes: list[str]) -> Iterator[Case]:
    """A point for each number along each axis; those too large for memory are noted."""
    points = [(axis, x) for axis in args.along for x in sorted(getattr(args, axis))]
    for axis, x in points:
        millions = x if axis == "params" else args.fixed_params
        leaves = x if axis == "leaves" else args.fixed_leaves
        asked = millions, leaves, args.mode, args.rounds
        needed, free = 1e6 * millions * BYTES_HELD, measure.free_bytes()
        if free is not None and needed > SHARE * free:
            why = f"it needs {needed / 1e9:.2g} GB, {free / 1e9:.2g} GB are free"
            notes.append(f"Left out along {axis}: {x:g}, {why}.")
        elif axis == "devices":
            yield Case(axis, f"{x}", {}, accounts=in_process(x, asked))
        elif axis == "leaves":
            again = {"compile_rounds": args.compile_rounds, "facts": {"x": x}}
            yield point(*asked)._replace(label=axis, **again)
        else:
            yield point(*asked)


def point(
    millions: float,
    leaves: int,
    mode: str,
    rounds: int,
    place: Callable[[jax.Array], jax.Array] = lambda leaf: leaf,
) -> Case:
    """Both optimizers on one tree."""
    shapes = contenders.even(1e6 * millions, leaves)
    size = contenders.size(shapes)
    *_, makers = contenders.updates(shapes, [mode], place=place)
    return Case("params", in_words(size), makers, rounds, facts={"x": size})


def in_process(devices: int, asked: tuple[Any, ...]) -> dict[str, Account]:
    """What `sharded` prints in a process with so many simulated devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from benchmarks import scaling; scaling.sharded{asked}",
        ],
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        why = said[-1] if said else f"exit status {done.returncode}"
        raise StoppedError(f"{devices} devices: {why}")
    return json.loads(done.stdout.splitlines()[-1])


def sharded(*asked: Any) -> None:
    """Prints accounts as JSON; devices share every kernel's longest axis (FSDP)."""
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))

    def place(kernel: jax.Array) -> jax.Array:
        longest = int(np.argmax(kernel.shape))
        spec = PartitionSpec(*[None] * longest, "data")
        return jax.device_put(kernel, NamedSharding(mesh, spec))

    accounts: dict[str, Account] = {}
    # XLA's CPU back end aborts where many steps wait for each other's devices.
    case = point(*asked, place=place)._replace(facts={"x": devices}, most_steps=2)
    for _ in measure.take_turns(case, accounts):
        pass
    print(json.dumps(accounts))


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


def finished(results: Results) -> dict[str, list[dict[str, Account]]]:
    """Accounts by axis, of the points that were measured to the end."""
    along: dict[str, list] = {}
    for group in results["groups"]:
        own = group["accounts"].get(results["options"]["mode"], {})
        if all(own.get(key) for key in ("time", *QUANTITIES[group["label"]])):
            along.setdefault(group["label"], []).append(group["accounts"])
    return {axis: points for axis, points in along.items() if len(points) > 1}


def series(points: Sequence[Mapping], who: str, key: str) -> list[float]:
    """One quantity of a contender, of several rounds the median."""
    return [float(np.median(accounts[who][key])) for accounts in points]


def growth(points: Sequence[Mapping], axis: str, mode: str) -> dict[str, dict]:
    """By point FTP's quantities, in multiples of its first point's and of AdamW's."""
    rows: dict[str, dict[str, Any]] = {}
    for accounts in points:
        own, plain, first = accounts[mode], accounts[PLAIN], points[0][mode]
        row = rows[in_words(own["x"])] = {}
        for key in QUANTITIES[axis]:
            row[key] = float(np.median(own[key]) / np.median(first[key]))
            row[f"{key}/AdamW"] = measure.multiple(own, plain, key)
        if axis == "devices":
            row["between, %"] = 100 * own["between"] / own["traffic"]
            row["time/AdamW"] = measure.multiple(own, plain, "time")
    return rows


def report(results: Results) -> tuple[list[str], Figure] | None:
    """A table and a panel for each axis, and a table of the slopes."""
    along, mode = finished(results), results["options"]["mode"]
    if not along:
        return None
    slopes = results["slopes"] = {}
    tables, size = [], (1 + 4.0 * len(along), 4.6)
    figure, panels = plt.subplots(1, len(along), figsize=size, squeeze=False)
    for axes, (axis, points) in zip(panels[0], along.items(), strict=True):
        x = [accounts[PLAIN]["x"] for accounts in points]
        rows = growth(points, axis, mode)
        tables.append(show.table(f"Along {axis}, {contenders.LABELS[mode]}", rows))
        for key, style in zip(QUANTITIES[axis], ("o-", "s--"), strict=True):
            row = slopes[f"{key}, {axis}"] = {}
            unit = series(points, PLAIN, key)[0]
            for who, label in ((PLAIN, "AdamW"), (mode, "FTP")):
                y = series(points, who, key)
                row[label] = slope(x, y)
                row[f"{label} end"] = slope(x[-2:], y[-2:])["median"]
                text = f"{label}: {key} ({row[label]['median']:.2f})"
                colour, y = show.COLOURS[label], np.array(y) / unit
                axes.loglog(x, y, style, color=colour, label=text)
        axes.set_xticks(x, [in_words(number) for number in x])
        axes.set_yscale("log", base=2)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel=axis, ylabel="Multiple of AdamW's first point")
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))
    return [*tables, show.table("Slopes", slopes), LEGEND], figure


def in_words(x: float) -> str:
    """A number of parameters such as `9.95 M`, or a small one as it is."""
    return f"{x / 1e6:.3g} M" if x > 5000 else f"{x:g}"


main = functools.partial(show.run, "scaling", __doc__, OPTIONS, SMOKE, cases, report)

if __name__ == "__main__":
    sys.exit(main())
