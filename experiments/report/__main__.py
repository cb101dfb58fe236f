"""Gathers many runs into tables, plots and one page.

Takes studies (`.jsonl`), folders of sweeps, and folders of single runs or that contain
some at any depth. Writes report.md, index.html (one self-contained page), runs.csv (a
row a run) and the plots as PNG.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console

from experiments import studies
from experiments.cli import Formatter
from experiments.records import METRICS, RecordError, read, write_text
from experiments.report import page
from experiments.report.frame import frame, groups
from experiments.report.plots import plots
from experiments.studies import Record, StudyError

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
    """Writes the report.

    Args:
      argv: command line; `None` takes that of the process.

    Returns:
      The exit status: 0, or 2 if there is nothing to report or a record is refused.
    """
    args, console = parse(argv), Console()
    try:
        records, notes = gather(args.paths)
        for note in notes:
            console.print(
                f"Note: {note}", highlight=False, markup=False, soft_wrap=True
            )
        if not records:
            raise StudyError("No run has finished yet: nothing to report.")
        out = args.out or _common_folder(args.paths) / "report"
        write(records, out, args.title, notes)
    except RecordError as error:
        print(f"{JOB}: {error}", file=sys.stderr)
        return 2
    console.print(f"{len(records)} runs; open {out / FILES[0]}", soft_wrap=True)
    return 0


def _common_folder(paths: Sequence[pathlib.Path]) -> pathlib.Path:
    found = [p.resolve() for p in paths]
    folders = [p.parent if p.is_file() or (p / METRICS).is_file() else p for p in found]
    return pathlib.Path(os.path.commonpath(folders))


# ---- Which runs are there? ---------------------------------------------------------


def gather(paths: Iterable[pathlib.Path]) -> tuple[list[Record], list[str]]:
    """Reads all studies and single runs in and below the given paths.

    Returns:
      The records of the runs that have ended, each with its `place`, and a note for
      each one that was left out.

    Raises:
      StudyError: a path is missing or holds no run, or a record is refused.
    """
    records: dict[str, Record] = {}
    notes: list[str] = []
    for path in paths:
        found = [path] if path.is_file() else list(_below(path))
        if not found:
            raise StudyError(f"{path}: no {METRICS} and no .jsonl in it or below.")
        for file in map(pathlib.Path.resolve, found):
            if file.name == METRICS and not file.exists():
                notes.append(f"{file.parent}: no {METRICS} yet, left out.")
            for record in _read(file) if file.exists() else ():
                place = _place(file, record)
                if record["status"] in _DONE:
                    records[place] = record | {"place": place}
                else:
                    notes.append(f"{place}: not finished ({record['status']}).")
    return list(records.values()), list(dict.fromkeys(notes))


def _place(file: pathlib.Path, record: Record) -> str:
    if file.name == METRICS:
        return str(file.parent)
    return f"{file}: {record['stage']} {record['run']}"


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Studies, and the metrics of single runs, whether these are there yet or not."""
    if not folder.is_dir():
        raise StudyError(f"{folder} does not exist. Name studies or folders of runs.")
    for place, below, files in os.walk(folder):
        begun = any(name in (*below, *files) for name in _UNFINISHED)
        found = sorted(name for name in files if name.endswith(".jsonl"))
        if METRICS in files or begun:
            found.append(METRICS)
        if METRICS in files or studies.FILE in files:
            below.clear()  # a run holds no other; a sweep's runs are in its study
        below[:] = sorted(x for x in below if x not in _UNFINISHED and x[0] != ".")
        yield from (pathlib.Path(place) / name for name in found)


def _read(file: pathlib.Path) -> list[Record]:
    if file.name != METRICS:
        return studies.read(file)
    record = read(file)
    if record.get("job") == studies.JOB and record.get("status") not in _DONE:
        return [{"stage": "", "run": file.parent.name, "status": record.get("status")}]
    studies.check(record, str(file))
    return [{"stage": "", "run": file.parent.name, **studies.thinned(record, "")}]


# ---- What is written where? --------------------------------------------------------


def write(
    records: Sequence[Record],
    out: pathlib.Path,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes everything into `out`, in place of an earlier report.

    Raises:
      StudyError: `out` holds files of the same names that no report made.
    """
    found = groups(records)
    data = ", ".join(dict.fromkeys(group.shared.data for group in found))
    title, sections = title or f"Robust fine-tuning: {data}", []
    for number, group in enumerate(found, 1):
        slug = f"{number}-{re.sub(r'[^a-z0-9]+', '-', group.title.lower())[:LONGEST]}"
        drawn, prefix = plots(group), f"{slug}-" if len(found) > 1 else ""
        files = [f"{PLOTS}/{prefix}{plot.key}.png" for plot in drawn]
        sections.append(page.Section(slug, group, drawn, files))
    contents = (
        page.page(title, sections, notes),
        page.markdown(title, sections, notes),
        frame(records).drop(columns=["record", "score"]).to_csv(index=False),
    )
    _check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    for file, text in zip(FILES, contents, strict=True):
        write_text(out / file, text)
    shutil.rmtree(out / PLOTS, ignore_errors=True)
    (out / PLOTS).mkdir()
    for section in sections:
        for file, plot in zip(section.files, section.plots, strict=True):
            (out / file).write_bytes(plot.png)


def _check_free(out: pathlib.Path) -> None:
    """Raises a `StudyError` if `out` holds anything that a report did not make.

    The page comes first and at once: it tells the folder of a report that was killed.
    """
    if out.exists() and not out.is_dir():
        raise StudyError(f"{out} is not a folder. Use another --out.")
    taken = [out / name for name in (*FILES, PLOTS) if (out / name).exists()]
    made = (out / FILES[0]).is_file() and page.MARK in (out / FILES[0]).read_text(
        "utf-8"
    )
    if taken and not made:
        raise StudyError(f"{taken[0]} was not made by {JOB}. Use another --out.")


if __name__ == "__main__":
    sys.exit(main())
