"""Count the memory that FTP takes beside AdamW, in each mode.

What a state holds is counted array by array after a step, on the device and on the
host; the peak of a step is the compiler's account. Nothing here is timed, so a busy
machine changes nothing. Settings that the library refuses are listed with its reason.

Run it so:
  python -m benchmarks.memory
  python -m benchmarks.memory --smoke
  python -m benchmarks.memory --tree leaves-400 --modes explicit int8
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import contenders, cost, show
from benchmarks.command import Option, Results, parse, run
from benchmarks.contenders import MODES, PLAIN, TREES
from benchmarks.show import Bars, Target
from benchmarks.update import update_step
from ftp_optax import with_ftp

DTYPES = ["float32", "bfloat16"]
OPTIONS = {
    "tree": Option("vit-b", "whose memory", TREES),
    "modes": Option(list(MODES), "of FTP", MODES),
    "dtypes": Option(DTYPES, "of the params", DTYPES),
}
SMOKE = {"tree": "tiny", "dtypes": ["float32"]}
# Arguments of `with_ftp` that do not go together, or not with params of that dtype.
REFUSED: Sequence[tuple[dict[str, Any], str]] = (
    ({"anchor": "implicit", "displacement_dtype": "int8"}, "float32"),
    ({"anchor": "implicit", "displacement_dtype": "bfloat16"}, "float32"),
    ({"anchor": "implicit", "anchor_memory": "pinned_host"}, "float32"),
    ({"anchor": "implicit"}, "bfloat16"),
    ({"displacement_dtype": "int8", "hypergradient": "active"}, "float32"),
)
TARGETS = [
    Target(
        f"FTP ({mode.label}) keeps at most {mode.most_state:g} copies on the device",
        name,
        "device",
        mode.most_state + 0.01,  # vectors and counters are some bytes a leaf
    )
    for name, mode in MODES.items()
]
COLUMNS = {"device": ".3f", "host": ".3f", "peak": ".2f", "temporaries": ".3f"}
LEGEND = (
    "device, host: bytes of the state beyond AdamW's, in copies of the parameters;"
    " peak: bytes held on the device while a step runs (arguments, results and"
    " temporaries, what is donated counted once), as a multiple of AdamW's;"
    " temporaries: their part of it, in copies of the parameters."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Counts, prints and writes; returns the exit status."""
    args = parse(argv, "memory", __doc__, OPTIONS, SMOKE)
    total = len(args.dtypes) * (1 + len(args.modes))
    return run(args, measure, total, conclude, draw)


def measure(args: argparse.Namespace, results: Results) -> Iterator[str]:
    """Counts the bytes of every mode, for params of each dtype, one after another."""
    shapes = TREES[args.tree].shapes()
    results |= {"num_params": contenders.size(shapes), "dtypes": {}, "refused": {}}
    for arguments, dtype in REFUSED:
        # 1/3 is exact in no binary format.
        if why := why_not(arguments, {"kernel": jnp.full((4, 3), 1 / 3, dtype)}):
            named = [f"{name}={value!r}" for name, value in arguments.items()]
            named += [f"{dtype} params"] * (dtype != "float32")
            results["refused"][", ".join(named)] = why
    for dtype in args.dtypes:
        # Exact in bfloat16, so that a mode may keep less than float32.
        rounded = lambda x, dtype=dtype: x.astype("bfloat16").astype(dtype)
        drawn = functools.partial(contenders.drawn, shapes, args.seed, 0.02)
        grads = jax.tree.map(rounded, drawn())
        for name in [PLAIN, *(mode for mode in MODES if mode in args.modes)]:
            yield f"{dtype}: {name}"
            # What is refused is in the list of those settings.
            if name == PLAIN or not why_not(MODES[name].arguments, grads):
                counted = results["dtypes"].setdefault(dtype, {})
                counted[name] = count(name, jax.tree.map(rounded, drawn()), grads)


def count(name: str, params: Any, grads: Any) -> dict[str, float]:
    """Bytes of the state on the device and on the host after a step, and its cost."""
    step = update_step(name, params, grads)
    step(1)
    state = jax.tree.leaves(step.results[1])
    device = cost.num_bytes([leaf for leaf in state if cost.on_device(leaf)])
    host = cost.num_bytes(state) - device
    return {"device": device, "host": host, **step.cost._asdict()}


def why_not(arguments: Mapping[str, Any], params: Any) -> str | None:
    """Why `with_ftp` cannot run so on these params: the error's first sentence."""
    try:
        tx = with_ftp(contenders.adamw(), **arguments)
        jax.eval_shape(tx.update, params, tx.init(params), params)
    except (TypeError, ValueError) as error:
        return " ".join(str(error).split()).partition(". ")[0].rstrip(".") + "."
    return None


def beyond_plain(counted: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The columns of each mode of FTP, by contender, from what `count` returned."""
    plain = counted[PLAIN]
    return {
        name: {
            "device": (row["device"] - plain["device"]) / row["params"],
            "host": (row["host"] - plain["host"]) / row["params"],
            "peak": row["memory"] / plain["memory"],
            "temporaries": row["temporaries"] / row["params"],
        }
        for name, row in counted.items()
        if name != PLAIN
    }


def conclude(results: Results) -> show.Report:
    """One table for each dtype, one of what is refused, one sentence a target."""
    tables, targets = [], []
    tree = TREES[results["options"]["tree"]].label
    for dtype, counted in results["dtypes"].items():
        rows = beyond_plain(counted)
        if dtype == "float32":
            targets = show.verdicts(TARGETS, rows, dtype)
        title = f"{tree}, {results['num_params'] / 1e6:.1f} M {dtype} parameters"
        tables.append(show.table(title, "FTP", COLUMNS, show.named(rows, MODES)))
    reasons = {setting: {"reason": why} for setting, why in results["refused"].items()}
    tables.append(show.table("Refused", "setting", {"reason": ""}, reasons))
    return show.Report(tables, LEGEND, targets)


def draw(results: Results, path: pathlib.Path) -> None:
    """Draws the state on device and host, a panel for each dtype of the params."""
    below, panels = "Copies of the parameters: device + host", []
    for dtype, counted in results["dtypes"].items():
        if rows := show.named(beyond_plain(counted), MODES):
            most = {mode.label: {"most": mode.most_state} for mode in MODES.values()}
            if dtype == "float32":
                rows = {name: {**row, **most[name]} for name, row in rows.items()}
            title = f"{dtype} parameters"
            panels.append(Bars(title, rows, "device", below, "host", "most"))
    if panels:  # neither interrupted before nor all refused
        tree = TREES[results["options"]["tree"]].label
        note = f"{tree}, state beyond AdamW's; red: targets."
        show.save_bars([panels], note, results["machine"], path)


if __name__ == "__main__":
    sys.exit(main())
