"""Whether every image of a folder can be read, which is found out once.

A training must not end at a damaged image after hours. So all of a folder is read
before it is used, and noted in the data folder, under the names, sizes and times of
change of its files: when one of these changes, all is read again. The note tells the
content from another, and is the same for a copy of the folder elsewhere.
"""

import hashlib
import itertools
import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.data import DataError
from experiments.data.examples import Examples, Record, named
from experiments.data.folders import (
    SUFFIXES,
    DataSet,
    Listing,
    data_set,
    name_below,
    split_of,
)

DIGITS = 16  # of a digest


def listed(
    spec: str, data: Path, source_dir: str | os.PathLike | None
) -> tuple[Listing, str]:
    """What a set holds; and what tells its folder, which was checked, from others."""
    name, _, _ = spec.partition(":")
    of_set = data_set(name)
    if not of_set.layout:
        return of_set.listing(Path()), ""
    if source_dir is None:
        raise DataError(
            f"{name} needs io.source_dir, a folder with the layout {of_set.layout}."
        )
    root, folder = Path(source_dir).expanduser(), name.partition("/")[0]
    try:
        root = root / folder if (root / folder).is_dir() else root
        listing = of_set.listing(root)
        splits = listing.splits
        if listing.lists:  # few need them all
            parts = (part.partition("[")[0] for part in split_of(spec).split("+"))
            names = {part.strip() for part in parts}
            splits = {k: splits[k] for k in splits if {k, "all"} & names}
        asked = listing._replace(splits=splits)
        counted, digest = check(name, of_set, asked, root, data)
        return listing._replace(splits=listing.splits | counted.splits), digest
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a full disk, no permission, no path at all
        raise DataError(f"{name} cannot be read from {root}: {error}.") from error


def check(
    name: str, of_set: DataSet, listing: Listing, root: Path, data_dir: Path
) -> tuple[Listing, str]:
    """The images that count, and sixteen digits that tell those in `root` from others.

    What has a mask, or another dense target, without a pixel that counts is left out.

    Raises:
      DataError: if there are too few, or one cannot be read.
      OSError: if that they can cannot be noted in `data_dir`.
    """
    if empty := [split for split, records in listing.splits.items() if not records]:
        raise DataError(f"{root} holds too few images: none for {', '.join(empty)}.")
    records = [record for split in listing.splits.values() for record in split]
    files = sorted({path for record in records for path in _files(record)})
    files += sorted(listing.lists[split] for split in listing.splits if listing.lists)
    state = hashlib.sha256(name.encode())
    for path in files:
        status = path.stat()
        state.update(name_below(root, path))
        state.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    note = data_dir / "checked" / state.hexdigest()[:DIGITS]
    noted = note.read_text().split() if note.is_file() else []
    if not noted or len(noted[-1]) != DIGITS:
        note.parent.mkdir(parents=True, exist_ok=True)  # fails before all is read
        if not listing.lists:
            _mention_others(root, set(files))
        noted = [*map(str, _blank(name, of_set, listing)), _digest(root, files)]
        note.write_text(" ".join(noted))
    left_out, place = {*map(int, noted[:-1])}, itertools.count()
    splits = {
        split: [record for record in records if next(place) not in left_out]
        for split, records in listing.splits.items()
    }
    return listing._replace(splits=splits), noted[-1]


def _files(record: Record) -> list[Path]:
    """The image, and what its target is decoded from."""
    values = [v if isinstance(v, tuple) else (v,) for v in record.values()]
    paths = [v for v in itertools.chain(*values) if isinstance(v, Path)]
    for path in paths if "line" in record else ():
        if not path.is_file():
            raise DataError(f"{record['line']} names {path}, which is no file.")
    return paths


def _digest(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(name_below(root, path))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:DIGITS]


def _blank(name: str, of_set: DataSet, listing: Listing) -> list[int]:
    """Reads every example, and says which have no pixel that counts."""
    target, classes = of_set.target, len(listing.class_names)
    records = [record for split in listing.splits.values() for record in split]
    examples = Examples(records, target, target.name)
    console = Console(stderr=True)
    blank = []
    for i in track(
        range(len(examples)),
        f"Checking {name}",
        console=console,
        disable=not console.is_terminal,
    ):
        values = np.asarray(examples[i][target.name])
        counts = values < classes if classes else values != 0
        wrong = values[~counts & (values != of_set.ignore_label)]
        if classes and wrong.size:
            raise DataError(
                f"{named(records[i][target.name])} has the class {wrong.max()}; the "
                f"last is {classes - 1}."
            )
        if target.dense and not counts.any():
            blank.append(i)
    return blank


def _mention_others(root: Path, files: set[Path]) -> None:
    """Says how many visible files below `root` are none of these."""
    others = sorted(
        path
        for path in root.rglob("*")
        if path not in files
        and path.suffix != ".txt"  # names of classes, or what to read
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
