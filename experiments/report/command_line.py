"""Gathers many runs into tables, plots and one page.

Takes directories of runs, or directories that contain some at any depth, and writes
report.md, index.html (one self-contained page), summary.json and the plots as PNG.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from experiments.cli import Formatter
from experiments.report import markdown, page, plots, summary
from experiments.report.gather import ReportError, Run, gather
from experiments.report.summarise import Group, summarise

JOB = "experiments.report"
SUMMARY = "summary.json"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; exits on bad input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {JOB}",
        description=__doc__,
        formatter_class=Formatter,
        epilog="""examples:
  python -m experiments.report runs/pacs
  python -m experiments.report runs/pacs-64 runs/pacs-96 --out docs/results/pacs""",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=pathlib.Path,
        metavar="RUNS",
        help="directories of runs, or directories that contain some",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="where to write (default: report/ in the directory that holds all runs)",
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
        runs, notes = gather(args.runs)
        for note in notes:
            console.print(f"Note: {note}", highlight=False, soft_wrap=True)
        if not runs:
            raise ReportError("No run has finished yet: nothing to report.")
        out = args.out or common_folder(runs) / "report"
        write(summarise(runs), notes, out, args.title)
    except ReportError as error:
        print(f"{JOB}: {error}", file=sys.stderr)
        return 2
    console.print(f"{len(runs)} runs; open {out / page.PAGE}", soft_wrap=True)
    return 0


def common_folder(runs: Sequence[Run]) -> pathlib.Path:
    """The closest directory that holds the directories of all runs."""
    parents = [str(run.path.resolve().parent) for run in runs]
    return pathlib.Path(os.path.commonpath(parents))


def write(
    groups: Sequence[Group],
    notes: Sequence[str],
    out: pathlib.Path,
    title: str | None = None,
) -> None:
    """Writes everything into `out`, in place of an earlier report.

    Raises:
      ReportError: `out` holds files of the same names that no report made.
    """
    _make_room(out)
    data = ", ".join(dict.fromkeys(group.shared.data for group in groups))
    title = title or f"Robust fine-tuning: {data}"
    drawn = {
        group.slug: plots.draw(group, out, f"{group.slug}-" * (len(groups) > 1))
        for group in groups
    }
    html = page.page(title, groups, notes, drawn)
    names = {
        slug: {plot.path.name: plot.description for plot in found}
        for slug, found in drawn.items()
    }
    (out / page.PAGE).write_text(html, encoding="utf-8")
    (out / "report.md").write_text(
        markdown.markdown(title, groups, notes, names), encoding="utf-8"
    )
    files = [name for found in names.values() for name in found]
    content = summary.summary(JOB, title, groups, notes, files)
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    (out / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _make_room(out: pathlib.Path) -> None:
    """Creates the directory, or removes the plots that an earlier report left in it."""
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out} is not a directory. Use another --out.")
    out.mkdir(parents=True, exist_ok=True)
    file = out / SUMMARY
    if not file.exists():
        for name in ("report.md", page.PAGE):
            if (out / name).exists():
                raise ReportError(
                    f"{out / name} was not made by {JOB}. Use another --out."
                )
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        job, plots_then = found["job"], found["plots"]
    except (ValueError, KeyError, TypeError):
        job, plots_then = None, []
    if job != JOB:
        raise ReportError(f"{file} was not made by {JOB}. Use another --out.")
    for name in plots_then:
        if pathlib.PurePath(name).name == name and name.endswith(".png"):
            (out / name).unlink(missing_ok=True)
