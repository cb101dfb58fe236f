"""The data sets of this project: where each is told of, and what its folder holds."""

import importlib
import os
from pathlib import Path

from tensorflow_datasets.core.hashing import Hasher

from experiments.data import DataError
from experiments.data.checked import check
from experiments.data.examples import Record
from experiments.data.folders import DataSet, Listing

# Modules of this folder, each with a `DATA_SET`, or one for each target after a slash;
# imported when one is asked for.
DATA_SETS = (
    *("pacs", "camvid", "image_folder", "mask_folder", "list", "digits"),
    *("pascal_context/semseg", "pascal_context/parts", "pascal_context/normals"),
)


def data_set(name: str) -> DataSet:
    """One of `DATA_SETS`."""
    module, _, target = name.partition("/")
    held = importlib.import_module(f"experiments.data.{module}").DATA_SET
    return held[target] if target else held


def split_of(spec: str) -> str:
    """Splits, slices and sums of them; a list may be called as its file is."""
    name, _, split = spec.partition(":")
    return data_set(name).aliases.get(split, split).replace(".txt", "")


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
            f"{name} needs source_dir, a folder with the layout {of_set.layout}."
        )
    root, folder = Path(source_dir).expanduser(), name.partition("/")[0]
    try:
        root = root / folder if (root / folder).is_dir() else root
        listing = of_set.listing(root)
        splits = listing.splits
        if listing.lists:  # few need them all
            names = {part.partition("[")[0] for part in split_of(spec).split("+")}
            splits = {name: splits[name] for name in splits if name in names}
        asked = listing._replace(splits=splits)
        counted, digest = check(name, of_set, asked, root, data)
        return listing._replace(splits=listing.splits | counted.splits), digest
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a full disk, no permission, no path at all
        raise DataError(f"{name} cannot be read from {root}: {error}.") from error


def ordered(listing: Listing, split: str) -> list[Record]:
    """As TFDS would keep them, by a hash of their names: a slice is a fair sample."""
    place = Hasher(split).hash_key
    return sorted(listing.splits[split], key=lambda record: place(record["name"]))
