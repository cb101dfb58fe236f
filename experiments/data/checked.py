"""Whether every image of a folder can be read, which is found out once.

A training must not end at a damaged image after hours. So all of a folder is read
before it is used, and noted in the data folder, under the names, sizes and times of
change of its files: when one of these changes, all is read again. The note tells the
content from another, and is the same for a copy of the folder elsewhere.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.data import DataError
from experiments.data.examples import Examples
from experiments.data.folders import SUFFIXES, DataSet, Listing, name_below

DIGITS = 16  # of a digest


def check(
    name: str, data_set: DataSet, listing: Listing, root: Path, data_dir: Path
) -> str:
    """Sixteen digits that tell the images in `root` from others.

    Raises:
      DataError: if there are too few, or one cannot be read.
      OSError: if that they can cannot be noted in `data_dir`.
    """
    if empty := [split for split, records in listing.splits.items() if not records]:
        raise DataError(f"{root} holds too few images: none for {', '.join(empty)}.")
    records = [record for split in listing.splits.values() for record in split]
    paths = {v for record in records for v in record.values() if isinstance(v, Path)}
    files = sorted(paths)
    state = hashlib.sha256(name.encode())
    for path in files:
        status = path.stat()
        state.update(name_below(root, path))
        state.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    note = data_dir / "checked" / state.hexdigest()[:DIGITS]
    if note.is_file() and len(noted := note.read_text()) == DIGITS:
        return noted

    note.parent.mkdir(parents=True, exist_ok=True)  # fails before all is read
    _mention_others(root, paths)
    digest = hashlib.sha256()
    for path in files:
        digest.update(name_below(root, path))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    last = len(listing.class_names) - (data_set.ignore_label is None)
    examples = Examples(records, data_set.target, data_set.target.name)
    console = Console(stderr=True)
    for i in track(
        range(len(examples)),
        f"Checking {name}",
        console=console,
        disable=not console.is_terminal,
    ):
        highest = np.max(examples[i][data_set.target.name])
        if listing.class_names and highest > last:
            raise DataError(
                f"{records[i][data_set.target.name]} has the class {highest}; the last "
                f"is {last}."
            )
    note.write_text(digest.hexdigest()[:DIGITS])
    return digest.hexdigest()[:DIGITS]


def _mention_others(root: Path, files: set[Path]) -> None:
    """Says how many visible files below `root` are none of these."""
    others = sorted(
        path
        for path in root.rglob("*")
        if path not in files
        and path.is_file()
        and not any(p.startswith(".") for p in path.relative_to(root).parts)
    )
    if others:
        print(
            f"Note: {len(others)} files in {root} are passed over, "
            f"{others[0].relative_to(root)} first. Images are {', '.join(SUFFIXES)}, "
            "and in no deeper folder than the others.",
            file=sys.stderr,
        )
