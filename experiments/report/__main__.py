"""Gathers many runs into tables, plots and one page.

Takes studies (`.jsonl`), folders of sweeps, and folders of single runs or that contain
some at any depth. Writes report.md, index.html (one self-contained page), runs.csv (a
row a run) and the plots as PNG. What cannot be read is named, and the report is of the
rest.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console

from experiments import studies
from experiments.cli import Formatter
from experiments.files import RecordError, in_words, write_bytes
from experiments.records import METRICS
from experiments.report import page
from experiments.report.frame import frame, groups
from experiments.report.plots import plots
from experiments.schema import UNWRITABLE
from experiments.studies import Record

JOB = "experiments.report"
FILES = ("index.html", "report.md", "runs.csv")
PLOTS = "plots"  # a folder
_UNFINISHED = ("config.json", "checkpoints")  # what a run leaves before its metrics
_DONE = ("finished", "diverged")
LONGEST = 120  # letters of a title in the name of a file


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {JOB}",
        description=__doc__,
        formatter_class=Formatter,
        epilog="""examples:
  python -m experiments.report runs/pacs
  python -m experiments.report docs/results/pacs-*.jsonl --out runs/report""",
    )
    paths = {"nargs": "+", "type": pathlib.Path, "metavar": "PATH"}
    parser.add_argument("paths", help="studies, or folders that hold runs", **paths)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="where to write (default: report/ in the folder that holds all PATHs)",
    )
    parser.add_argument("--title", help="of the report (default: made from the runs)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report; returns the exit status, 2 if anything is refused."""
    args, console = parse(argv), Console(soft_wrap=True, highlight=False, markup=False)
    records, notes, refused = gather(args.paths)
    for note in notes:
        console.print(f"Note: {note}")
    try:
        if records:
            out = args.out or _common_folder(args.paths) / "report"
            write(records, out, args.title, notes)
            console.print(f"{len(records)} runs; open {out / FILES[0]}")
        elif not refused:
            refused.append("No run has finished yet: nothing to report.")
    except RecordError as error:
        refused.append(str(error))
    except OSError as error:
        refused.append(in_words(error))
    for line in refused:
        print(f"{JOB}: {one_line(line)}", file=sys.stderr)
    return 2 if refused else 0


def one_line(text: str) -> str:
    """With all of it visible, whatever a file is called."""
    return UNWRITABLE.sub("�", text)


def _common_folder(paths: Sequence[pathlib.Path]) -> pathlib.Path:
    every = [p.resolve() for p in paths]
    folders = [p.parent if p.is_file() or (p / METRICS).is_file() else p for p in every]
    return pathlib.Path(os.path.commonpath(folders))


# ---- Which runs are there? ---------------------------------------------------------


class Gathered(NamedTuple):
    """Runs that have ended, each with its `place`; and of others, why they are not."""

    records: list[Record]
    notes: list[str]  # of runs that have not
    refused: list[str]  # of files that cannot be used


def gather(paths: Iterable[pathlib.Path]) -> Gathered:
    """Reads all studies and single runs in and below the given paths."""
    gathered = Gathered([], [], [])
    files = (file.resolve() for path in paths for file in _files(path))
    for file in dict.fromkeys(files):
        if file.name == METRICS and not file.exists():
            gathered.notes.append(f"{file.parent}: no {METRICS} yet, left out.")
            continue
        try:
            records = _read(file)
        except RecordError as error:
            gathered.refused.append(str(error))
            continue
        for record in records:
            name = f"{record['stage']} {record['run']}"
            place = f"{file.parent}" if file.name == METRICS else f"{file}: {name}"
            if record["status"] in _DONE:
                gathered.records.append(record | {"place": one_line(place)})
            else:
                gathered.notes.append(f"{place}: not finished ({record['status']}).")
    return gathered._replace(notes=[*map(one_line, gathered.notes)])


def _files(path: pathlib.Path) -> Iterable[pathlib.Path]:
    """What a path stands for; itself if that is nothing, so that it is refused."""
    return [*_below(path)] or [path] if path.is_dir() else [path]


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Studies, and the metrics of single runs, whether these are there yet or not."""
    for place, below, files in os.walk(folder):
        names = sorted(name for name in files if name.endswith(".jsonl"))
        if {*_UNFINISHED, METRICS} & {*below, *files}:
            names.append(METRICS)
        if METRICS in files or studies.FILE in files:
            below.clear()  # a run holds no other; a sweep's runs are in its study
        below[:] = sorted(x for x in below if x not in _UNFINISHED and x[0] != ".")
        yield from (pathlib.Path(place) / name for name in names)


def _read(file: pathlib.Path) -> list[Record]:
    if file.is_dir():
        raise RecordError(f"{file}: no {METRICS} and no .jsonl in it or below.")
    return [studies.read_run(file)] if file.name == METRICS else studies.read(file)


# ---- What is written where? --------------------------------------------------------


def write(
    records: Sequence[Record],
    out: pathlib.Path,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes everything into `out`, in place of an earlier report.

    Raises:
      RecordError: `out` holds files of the same names that no report made.
    """
    every, pictures = groups(records), []
    data = ", ".join(dict.fromkeys(group.shared.data for group in every))
    title = one_line(title or f"Robust fine-tuning: {data}")
    for number, group in enumerate(every, 1):
        slug = re.sub(r"[^a-z0-9]+", "-", group.title.lower())[:LONGEST]
        start = f"{PLOTS}/{number}-{slug}-" if len(every) > 1 else f"{PLOTS}/"
        pictures.append({f"{start}{plot.key}.png": plot for plot in plots(group)})
    by_file = {file: plot for each in pictures for file, plot in each.items()}
    report = page.markdown(title, every, pictures, notes)
    table = frame(records).drop(columns=["record", "score"]).to_csv(index=False)
    _check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    # The page comes first and at once: it tells the folder of a report that was killed.
    contents = page.page(title, report, by_file), report, table
    for file, text in zip(FILES, contents, strict=True):
        write_bytes(out / file, text.encode())
    shutil.rmtree(out / PLOTS, ignore_errors=True)
    (out / PLOTS).mkdir()
    for file, plot in by_file.items():
        (out / file).write_bytes(plot.png)


def _check_free(out: pathlib.Path) -> None:
    """Raises a `RecordError` if `out` holds anything that a report did not make."""
    for file in (out / name for name in (*FILES, PLOTS)):
        if file.is_file() and file.name == FILES[0] and page.MARK in file.read_bytes():
            return
        if file.exists():
            raise RecordError(f"{file} was not made by {JOB}. Use another --out.")


if __name__ == "__main__":
    sys.exit(main())
