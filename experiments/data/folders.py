"""What a data set that is read from a folder is, and which images a folder holds."""

import hashlib
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tensorflow_datasets.core.hashing import Hasher

from experiments.data import DataError
from experiments.data.examples import LABEL, Record, Target

# Modules of this folder, each with a `DATA_SET`, or one for each target after a slash;
# imported when one is asked for.
DATA_SETS = (
    *("pacs", "camvid", "image_folder", "mask_folder", "list", "digits"),
    *("pascal_context/semseg", "pascal_context/parts", "pascal_context/normals"),
)
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
PARTS = ("train", "val", "test")


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
      class_names: in the order of the labels.
      splits: records by split: an "image", the target, and a "name", bytes, by which
        they are put in order; "line" is where a list names it.
      lists: the file that says which images a split has, if such files do. Then other
        files are of no concern, nor are splits that no one asks for.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[Record]]
    lists: Mapping[str, Path] = {}


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


def data_set(name: str) -> DataSet:
    """One of `DATA_SETS`."""
    module, _, target = name.partition("/")
    held = importlib.import_module(f"experiments.data.{module}").DATA_SET
    return held[target] if target else held


def split_of(spec: str) -> str:
    """Splits, slices and sums of them; a list may be called as its file is."""
    name, _, split = spec.partition(":")
    return data_set(name).aliases.get(split, split).replace(".txt", "")


def ordered(listing: Listing, split: str) -> list[Record]:
    """As TFDS would keep them, by a hash of their names: a slice is a fair sample."""
    place = Hasher(split).hash_key
    return sorted(listing.splits[split], key=lambda record: place(record["name"]))


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
            "give the folder that holds it as io.source_dir."
        )


def with_masks(root: Path, pictures: Path, masks: Path) -> list[Record]:
    """The images of one folder, each with the mask of the same name in another.

    Raises:
      DataError: if one has no counterpart.
    """
    by_name = {path.stem: path for path in images(masks)}
    pairs = [(path, by_name.pop(path.stem, None)) for path in images(pictures)]
    alone = [path for path, mask in pairs if mask is None] or list(by_name.values())
    if alone:
        raise DataError(
            f"{alone[0]} has no counterpart: every image in {pictures} needs a mask of "
            f"the same name in {masks}, and every mask an image."
        )
    return [record(root, path, segmentation=mask) for path, mask in pairs]


def parted(records: list[Record]) -> dict[str, list[Record]]:
    """A fixed 70 % to train on, 15 % to select by, and the rest to test on.

    The order is that of a hash of the images' names, on every machine the same.
    """

    def place(record: Record) -> bytes:
        return hashlib.sha256(os.fsencode(record["image"].stem)).digest()

    ordered = sorted(records, key=place)
    train, val = round(0.70 * len(records)), round(0.85 * len(records))
    parts = ordered[:train], ordered[train:val], ordered[val:]
    return dict(zip(PARTS, parts, strict=True))
