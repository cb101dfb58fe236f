"""What a data set that is read from a folder is, and which images a folder holds."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.data import DataError
from experiments.data.examples import LABEL, Record, Target

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
      class_names: in the order of the labels.
      splits: records by split: an "image", the target, and a "name", bytes, by which
        they are put in order.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[Record]]


class DataSet(NamedTuple):
    """A data set of a folder, or one whose images are drawn.

    Attributes:
      listing: from the folder to what it holds; raises a `DataError` if that is laid
        out otherwise.
      layout: of the folder, for messages; "" if images are drawn.
      target: what there is to predict.
      ignore_label: that of pixels that do not count, after those of the classes.
      aliases: other names of splits, or of sums of splits.
    """

    listing: Callable[[Path], Listing]
    layout: str = ""
    target: Target = LABEL
    ignore_label: int | None = None
    aliases: Mapping[str, str] = {}


def record(root: Path, path: Path, **target: Any) -> Record:
    """The record of one image, called after its path below `root`."""
    return {"name": name_below(root, path), "image": path, **target}


def name_below(root: Path, path: Path) -> bytes:
    """The same on every machine; the bytes of a path need not be text."""
    return os.fsencode(path.relative_to(root).as_posix())


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted.

    Raises:
      DataError: if there is no such folder, or a name cannot be printed.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    names = sorted(
        p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")
    )
    if strange := [name for name in names if not name.isprintable()]:
        raise DataError(f"{folder / strange[0]} has a name that is no text. Rename it.")
    return names


def images(folder: Path) -> list[Path]:
    """The images of a folder, sorted; other files are passed over.

    Raises:
      DataError: if there are none, or one is a link to nothing or no file.
    """
    files = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not files:
        raise DataError(
            f"{folder} holds no images ({', '.join(SUFFIXES)}). Add some or remove "
            "the folder."
        )
    # What is no file, such as a pipe, might be waited for without end.
    if strange := next((p for p in files if not p.is_file()), None):
        lost = strange.is_symlink() and not strange.exists()
        kind = (
            f"a link to {strange.readlink()}, which is not there" if lost else "no file"
        )
        raise DataError(f"{strange} is {kind}. Mend or remove it.")
    return files


def require_folders(root: Path, names: Iterable[str], layout: str) -> None:
    """Raises a `DataError` that shows the layout if a folder of `root` is missing."""
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise DataError(
            f"{root} has no folder {', '.join(missing)}. Expected the layout {layout}; "
            "give the folder that holds it as source_dir."
        )
