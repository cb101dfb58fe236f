"""What does a benchmark ask for, and how is it told? Options; tables and bars."""

import argparse
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks import measure
from benchmarks.contenders import LABELS
from benchmarks.measure import COLUMNS, Case, StoppedError
from experiments.models.weights import WeightsError

Results = dict[str, Any]  # ready for JSON
Rows = Mapping[str, Mapping[str, Any]]  # by name and column a number, a ratio or `None`

# ---- Tables and bars -----------------------------------------------------------------

# Of Okabe and Ito's palette, told apart with any colour vision.
GREY, GREEN, RED, BLUE, INK = "#999999", "#009E73", "#D55E00", "#56B4E9", "#444444"
COLOURS = {"AdamW": GREY, "FTP": GREEN, "FTP explicit": GREEN, "TPGM": RED}


def by_group(
    columns: Sequence[str], drawn: Sequence[str], results: Results
) -> tuple[list[str], Figure] | None:
    """A table and a row of bars for each group of contenders, and a legend."""
    groups = [group for group in results["groups"] if group["accounts"]]
    for group in groups:
        figure = functools.partial(measure.figure, group["accounts"])
        group["figures"] = {
            LABELS[who]: {column: figure(who, column) for column in columns}
            for who in group["accounts"]
            if who in LABELS
        }
    if not groups:
        return None
    tables = [table(group["title"], group["figures"]) for group in groups]
    legend = "; ".join(f"{column}: {COLUMNS[column].legend}" for column in columns)
    return [*tables, f"{legend}. In brackets: 95 % intervals."], bars(groups, drawn)


def table(title: str, rows: Rows) -> str:
    """These rows in Markdown, ratios with their intervals."""
    columns = list(next(iter(rows.values())))
    lines = [["", *columns], ["---", *["---:"] * len(columns)]]
    lines += [[name, *map(told, row.values())] for name, row in rows.items()]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = [map(str.ljust, line, widths) for line in lines]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in padded)


def told(value: Any) -> str:
    """A count or a number; a ratio as `2.480 (2.400 to 2.520)`; a dash if none."""
    if value is None or isinstance(value, int):
        return "–" if value is None else str(value)
    middle, low, high = (f"{end:.3f}" for end in ends(value))
    return middle if low == high else f"{middle} ({low} to {high})"


def ends(value: Any) -> tuple[float, float, float]:
    """Median, low and high; all the same where nothing varies."""
    if isinstance(value, dict):
        return value["median"], value["low"], value["high"]
    return value, value, value


def bars(groups: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Figure:
    """A row of panels for each group, one for each column; ratios with intervals."""
    most = max(len(group["figures"]) for group in groups)
    size = (1 + 3.2 * len(columns), 0.5 + (1.2 + 0.36 * most) * len(groups))
    figure, grid = plt.subplots(
        len(groups), len(columns), figsize=size, squeeze=False, sharey="row"
    )
    for panels, group in zip(grid, groups, strict=True):
        for axes, column in zip(panels, columns, strict=True):
            values = {name: row[column] for name, row in group["figures"].items()}
            measured = {n: ends(v) for n, v in values.items() if v is not None}
            middle, low, high = np.reshape(list(measured.values()), (-1, 3)).T
            drawing = axes.barh(
                list(measured),
                middle,
                xerr=(middle - low, high - middle),
                color=[COLOURS.get(name, BLUE) for name in measured],
                ecolor=INK,
            )
            axes.bar_label(drawing, fmt=" %.2f", size=9)
            axes.set_title(f"{group['label']}: {column}", size=10)
            axes.margins(x=0.25)
        panels[0].invert_yaxis()
    return figure


# ---- A command -----------------------------------------------------------------------

OUT, SMOKE_OUT = pathlib.Path("runs/benchmarks"), pathlib.Path("runs/benchmarks-smoke")
INTERRUPTED = 130  # exit status of what a shell's Ctrl-C ends


class Option(NamedTuple):
    """An option of the type of its default, which may be a list of different values.

    Numbers have to be above 0; `None` stands for a path that is not given.
    """

    default: Any
    help: str
    choices: Iterable[str] | None = None
    least: int = 1  # values of a list


def above_zero(kind: Callable[[str], float], name: str) -> Callable[[str], float]:
    """An argparse type: a finite number above 0."""

    def convert(text: str) -> float:
        if not 0 < (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError(f"expected a {name} above 0, got {text}")
        return value

    convert.__name__ = name  # argparse names it when `kind` refuses the text
    return convert


WHOLE, REAL = above_zero(int, "whole number"), above_zero(float, "number")
TYPES = {int: WHOLE, float: REAL, str: str, type(None): pathlib.Path}


def parse(
    name: str,
    description: str | None,
    options: Mapping[str, Option],
    smoke: Mapping[str, Any],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """Parses the command line; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", default=OUT, type=pathlib.Path, help=f"folder (default: {OUT})")
    add("--smoke", action="store_true", help="the smallest case, some seconds")
    for key, option in options.items():
        several = isinstance(option.default, list)
        first, *_ = values = option.default if several else [option.default]
        default = f" (default: {' '.join(map(str, values))})" if first else ""
        add(
            f"--{key.replace('_', '-')}",
            default=option.default,
            help=option.help + default,
            nargs="+" if several else None,
            type=TYPES[type(first)],
            choices=option.choices and list(option.choices),
        )
    if parser.parse_args(argv).smoke:
        parser.set_defaults(out=SMOKE_OUT, **smoke)
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is not a directory")
    for key, option in options.items():
        value = getattr(args, key)
        if isinstance(value, pathlib.Path) and not value.exists():
            parser.error(f"--{key}: {value} does not exist")
        if isinstance(value, list) and not option.least <= len({*value}) == len(value):
            expected = f"expected {option.least} values or more, none of them twice"
            parser.error(f"--{key}: {expected}, got {' '.join(map(str, value))}")
    return args


def run(
    name: str,
    description: str | None,
    options: Mapping[str, Option],
    smoke: Mapping[str, Any],
    cases: Callable[[argparse.Namespace, list[str]], Iterator[Case]],
    report: Callable[[Results], tuple[list[str], Figure] | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs `python -m benchmarks.<name>`, which leaves `<name>.json`, `.md`, `.png`.

    Args:
      name: of the command.
      description: what `--help` says.
      options: beside those that all have.
      smoke: the defaults that `--smoke` brings.
      cases: what is measured one after another, of the arguments and a list of notes.
      report: tables and a figure of the results; `None` if too little was finished.
      argv: the command line.

    Returns:
      The exit status: 0; 2 where something is refused; 130 after Ctrl-C.
    """
    args, status = parse(name, description, options, smoke, argv), 0
    asked = {k: v for k, v in vars(args).items() if not isinstance(v, pathlib.Path)}
    results: Results = {"options": asked, "groups": [], "notes": []}
    results["machine"] = measure.machine()
    try:
        for case in cases(args, results["notes"]):
            accounts = dict(case.accounts)
            group = {"label": case.label, "title": case.title, "accounts": accounts}
            results["groups"].append(group)
            for done in measure.take_turns(case, accounts):
                say(f"{case.label}: {done}")
    except (StoppedError, WeightsError) as refused:
        status = 2
        print(f"benchmarks.{name}: {refused}", file=sys.stderr)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if told_so := report(results):
        leave(*told_so, results, args.out / name)
    else:
        print("Too little was finished: nothing to report.")
    return status


def say(done: str) -> None:
    """Tells at once how far a run has come."""
    print(done, flush=True)


def leave(
    tables: Sequence[str], figure: Figure, results: Results, path: pathlib.Path
) -> None:
    """Prints the tables, and writes them, the results and the figure."""
    where = "{machine}; jax {jax}, optax {optax}.".format(**results["machine"])
    page = "\n\n".join([*tables, *results["notes"], f"Measured on {where}"]) + "\n"
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    figure.suptitle(where, size=9)
    figure.set_layout_engine("constrained")
    figure.savefig(path.with_suffix(".png"), dpi=150)
    plt.close(figure)
    print(f"\n{page}\nEverything is in {path.parent}/.")
