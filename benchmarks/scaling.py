"""Show how the cost of an update grows: with parameters, with leaves, with devices.

Plain AdamW and AdamW within FTP update trees of kernels of one size, round by round
in turn. A line through the logarithms tells the growth: a slope of 1 is linear. The
devices are simulated on this one machine, so time cannot fall with their number;
what counts there is the work of each by the compiler's account.

Run it so:
  python -m benchmarks.scaling
  python -m benchmarks.scaling --smoke
  python -m benchmarks.scaling --along leaves --compile-rounds 5
  python -m benchmarks.scaling --mode int8 --params 1 10 100
"""

import argparse
import gc
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import contenders, cost, measure, show
from benchmarks.command import Option, Results, StoppedError, parse, run
from benchmarks.contenders import EXPLICIT, MODES, PLAIN
from benchmarks.measure import Step, compiling, interleaved, ratio, slope
from benchmarks.show import Target

FTP = "ftp"  # in the mode that is asked for
AXES = ("params", "leaves", "devices")
OPTIONS = {
    "along": Option(list(AXES), "which growth", AXES),
    "mode": Option(EXPLICIT, "of FTP", MODES),
    "params": Option(
        [1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
        "in millions; those that the free memory does not hold are left out",
        least=2,
    ),
    "leaves": Option([10, 30, 100, 300, 1000], "numbers of leaves", least=2),
    "devices": Option([1, 2, 4, 8], "numbers of simulated devices", least=2),
    "leaves_of_params": Option(24, "along --params and --devices"),
    "params_of_leaves": Option(10.0, "along --leaves, in millions"),
    "params_of_devices": Option(10.0, "along --devices, in millions"),
    "compile_rounds": Option(2, "how often each is compiled"),
    "rounds": Option(7, "how often both have their turn, at each point"),
}
SMOKE = {"params": [0.01, 0.03, 0.1], "leaves": [4, 8, 16], "devices": [1, 2]}
SMOKE |= {"params_of_leaves": 0.1, "params_of_devices": 0.1, "leaves_of_params": 4}
SMOKE |= {"compile_rounds": 1, "rounds": 3}
# Gradients; params and state of AdamW, and of FTP; temporaries: copies of the params.
COPIES_HELD = 1 + 3 + 5 + 1
SHARE = 0.8  # of the free memory that may be taken
BLOCK, MOST_STEPS = 30_000_000, 30  # of a block: parameters updated, about, and steps
WARM_UP = 2
QUANTITIES = {  # what grows along an axis
    "params": ("time", "traffic"),
    "leaves": ("time", "compile time"),
    "devices": ("traffic", "state"),
}
LINEAR = 1.05  # growth that counts as linear
LABELS = {PLAIN: "AdamW", FTP: "FTP"}
SLOPES = {"AdamW": ".3f", "AdamW end": ".2f", "FTP": ".3f", "FTP end": ".2f"}
LEGEND = (
    "time: of an update; compile time: from tracing on; traffic: bytes read and"
    " written, by the compiler's count; each FTP's, as a multiple of its first row, and"
    " as a multiple of AdamW's. slope: of the logarithms, by least squares; 1 is"
    " linear, -1 a fair share for each device; end: between the last two rows. Devices"
    " are simulated on one machine: traffic and state are those of one; between:"
    " results of operations between devices, in % of its traffic."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures all points; returns the exit status, 1 if a process failed."""
    args = parse(argv, "scaling", __doc__, OPTIONS, SMOKE)
    total = sum(len(getattr(args, axis)) for axis in args.along)
    return run(args, measure_all, total, conclude, draw)


def measure_all(args: argparse.Namespace, results: Results) -> Iterator[str]:
    """A point for each number along each axis; those left out say why."""
    results |= {"along": {}, "skipped": []}
    for axis in args.along:
        for x in sorted(getattr(args, axis)):
            yield f"{axis}: {x:g}"
            if axis == "params" and (why := too_large(x * 1e6)):
                results["skipped"].append((x, why))
            else:
                points = results["along"].setdefault(axis, [])
                points.append(measure_point(args, axis, x))


def too_large(num_params: float) -> str | None:
    """Why memory would not do for so many parameters."""
    needed, free = 4 * COPIES_HELD * num_params, measure.free_bytes()
    if free is None or needed <= SHARE * free:
        return None
    return f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"


def measure_point(args: argparse.Namespace, axis: str, x: Any) -> dict[str, Any]:
    """`x`, and by contender what `timed` says."""
    if axis == "devices":
        return {"x": x, **in_process(args, x)}
    leaves = x if axis == "leaves" else args.leaves_of_params
    millions = x if axis == "params" else args.params_of_leaves
    shapes = contenders.even(1e6 * millions, leaves)
    size = contenders.size(shapes)
    steps = max(1, min(MOST_STEPS, BLOCK // size))
    anew = args.compile_rounds if axis == "leaves" else 0
    point = timed(shapes, args.mode, args.rounds, steps, args.seed, anew)
    return {"x": size if axis == "params" else x, **point}


def in_process(args: argparse.Namespace, devices: int) -> dict[str, Any]:
    """What `sharded` prints in a process with so many simulated devices."""
    root, path = pathlib.Path(__file__).parents[1], os.environ.get("PYTHONPATH", "")
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{root}{os.pathsep}{path}",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
    }
    asked = args.params_of_devices, args.leaves_of_params, args.mode, args.rounds
    code = f"from benchmarks.scaling import sharded; sharded{(*asked, args.seed)}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        why = said[-1] if said else f"exit status {done.returncode}"
        raise StoppedError(f"{devices} devices: {why}", status=1)
    return json.loads(done.stdout.splitlines()[-1])


def sharded(millions: float, leaves: int, mode: str, rounds: int, seed: int) -> None:
    """Prints what `timed` says as JSON; every parameter is spread over all devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))

    def place(leaf: jax.Array) -> jax.Array:
        # Along its longest axis that they divide (FSDP).
        divided = [a for a in range(leaf.ndim) if leaf.shape[a] % mesh.size == 0]
        spec: list[str | None] = [None] * leaf.ndim
        if divided:
            spec[max(divided, key=lambda axis: leaf.shape[axis])] = "data"
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

    shapes = contenders.even(millions * 1e6, leaves)
    print(json.dumps(timed(shapes, mode, rounds, 2, seed, place=place)))


def timed(
    shapes: contenders.Params,
    mode: str,
    rounds: int,
    steps: int,
    seed: int,
    compile_rounds: int = 0,
    place: Callable[[jax.Array], jax.Array] = lambda leaf: leaf,
) -> dict[str, dict[str, Any]]:
    """By contender seconds in each round, and bytes of one device by what they are."""
    draw = lambda seed: jax.tree.map(place, contenders.drawn(shapes, seed, 0.02))
    grads, updates, anew, point = draw(seed + 1), {}, {}, {}
    for name, optimizer in ((PLAIN, PLAIN), (FTP, mode)):
        tx, params = contenders.optimizer(optimizer), draw(seed)
        step = contenders.update_of(tx)
        updates[name] = Step(step, params, tx.init(params), [grads])
        anew[name] = compiling(step, updates[name].shapes)
        updates[name](WARM_UP)
    taken = list(interleaved(updates, rounds, steps, seed))
    for name, update in updates.items():
        state = jax.tree.leaves(update.results[1])
        sent = cost.collectives(update.compiled.as_text() or "")
        point[name] = {
            "time": [seconds[name] for seconds in taken],
            "traffic": update.cost.traffic,
            "state": sum(leaf.addressable_shards[0].data.nbytes for leaf in state),
            "between": sum(collective.bytes for collective in sent),
            "programs": update.programs,
        }
    updates.clear()  # before the compiler needs some memory
    del grads
    gc.collect()
    if taken := list(interleaved(anew, compile_rounds, 1, seed)):
        for name in anew:
            point[name]["compile time"] = [seconds[name] for seconds in taken]
    return point


def series(points: Sequence[Mapping], name: str, key: str) -> tuple[list, list]:
    """One quantity of a contender as x and y; of several rounds the median."""
    return [p["x"] for p in points], [float(np.median(p[name][key])) for p in points]


def slopes_of(along: Mapping[str, Sequence[Mapping]]) -> dict[str, dict[str, Any]]:
    """By quantity the slopes of both contenders, over all points and the last two."""
    rows: dict[str, dict[str, Any]] = {}
    for axis, points in along.items():
        for key in QUANTITIES[axis]:
            row = rows.setdefault(f"{key}, {axis}", {})
            for name, label in LABELS.items():
                x, y = series(points, name, key)
                row[label] = slope(x, y)
                row[f"{label} end"] = slope(x[-2:], y[-2:])["median"]
    return rows


def growth(axis: str, points: Sequence[Mapping]) -> dict[str, dict[str, Any]]:
    """By point FTP's quantities, in multiples of its first point's and of AdamW's."""
    rows: dict[str, dict[str, Any]] = {}
    for point in points:
        ftp, plain, first = point[FTP], point[PLAIN], points[0][FTP]
        row = rows[in_words(axis, point["x"])] = {
            "between": ftp["between"] / ftp["traffic"]
        }
        for key in ("traffic", "state"):
            row |= {key: ftp[key] / first[key], f"{key}/AdamW": ftp[key] / plain[key]}
        for key in {"time", "compile time"} & ftp.keys():
            row[key] = float(np.median(ftp[key]) / np.median(first[key]))
            row[f"{key}/AdamW"] = ratio(ftp[key], plain[key])
    return rows


def conclude(results: Results) -> show.Report | None:
    """A table for each axis, one of the slopes, one sentence for each target."""
    asked, tables, targets = results["options"], [], []
    # A line needs two points.
    results["along"] = {k: v for k, v in results["along"].items() if len(v) > 1}
    results["slopes"] = slopes = slopes_of(results["along"])
    sizes = {axis: f"{asked[f'params_of_{axis}']:g} M parameters" for axis in AXES[1:]}
    sizes["params"] = f"{asked['leaves_of_params']} leaves"
    for axis, points in results["along"].items():
        columns, devices = {}, axis == "devices"
        for key in QUANTITIES[axis]:
            columns |= {key: ".3g", f"{key}/AdamW": ".2f"}
        columns |= {"between": ".2%", "time/AdamW": ".2f"} if devices else {}
        title = f"{axis.capitalize()}, {sizes[axis]}, FTP {MODES[asked['mode']].label}"
        tables.append(show.table(title, axis, columns, growth(axis, points)))
        most, grows = LINEAR - 2 if devices else LINEAR, "grows linearly"
        grows = "of each device falls as their number grows" if devices else grows
        for key in QUANTITIES[axis]:
            text = f"{key.capitalize()} {grows} or better (slope at most {most:g})"
            target = Target(text, f"{key}, {axis}", LABELS[FTP], most)
            targets += show.verdicts([target], slopes, f"along {axis}")
    tables.append(show.table("Slopes", "quantity", SLOPES, slopes))
    notes = [f"{x:g} M parameters left out: {why}." for x, why in results["skipped"]]
    return show.Report(tables, LEGEND, targets, notes) if slopes else None


def in_words(axis: str, x: float) -> str:
    """A point along an axis, such as `9.95 M`."""
    return f"{x / 1e6:.3g} M" if axis == "params" else f"{x}"


def draw(results: Results, path: pathlib.Path) -> None:
    """Draws each quantity as a multiple of AdamW's first point, with its slope."""
    along, size = results["along"], (4.0 * len(results["along"]), 4.6)
    with mpl.rc_context(show.STYLE):
        figure, panels = plt.subplots(1, len(along), figsize=size, squeeze=False)
        for axes, (axis, points) in zip(panels[0], along.items(), strict=True):
            draw_panel(axes, axis, points, results["slopes"])
        panels[0, 0].set_ylabel("Multiple of AdamW's first point")
        note = "In brackets: slopes; dotted: linear growth."
        mode = results["options"]["mode"]
        show.save(figure, f"FTP: {mode}. {note}", results["machine"], path)


def draw_panel(
    axes: Any, axis: str, points: Sequence[Mapping], slopes: Mapping[str, Mapping]
) -> None:
    """One panel: what grows along one axis, for both contenders."""
    for key, style in zip(QUANTITIES[axis], ("o-", "s--"), strict=True):
        unit = series(points, PLAIN, key)[1][0]
        for name, label in LABELS.items():
            x, y = series(points, name, key)
            text = f"{label}: {key} ({slopes[f'{key}, {axis}'][label]['median']:.2f})"
            y = np.array(y) / unit
            axes.plot(x, y, style, color=show.COLOURS[label], label=text, ms=4)
    x = np.array([point["x"] for point in points], float)
    power, base = (-1.0, 2) if axis == "devices" else (1.0, 10)
    axes.plot(x, (x / x[0]) ** power, color=show.INK, ls=":", lw=1)
    axes.set(xscale="log", xlabel=axis.capitalize())
    axes.set_yscale("log", base=base)
    axes.set_xticks(x, [in_words(axis, point["x"]) for point in points])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16))


if __name__ == "__main__":
    sys.exit(main())
