"""Which images a folder holds, and whether they can be read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from experiments.datasets.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class Picture(NamedTuple):
    """One image of a folder and what it is of.

    Attributes:
      path: of the image.
      target: a class name, or the path of a mask.
    """

    path: Path
    target: str | Path


Listing = dict[str, list[Picture]]  # by split


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return sorted(
        p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")
    )


def images(folder: Path) -> list[Path]:
    """The images of a folder, sorted; other files are passed over.

    Raises:
      DataError: if there are none, or one is a link to nothing.
    """
    found = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        raise DataError(
            f"{folder} holds no images ({', '.join(SUFFIXES)}). Add some or remove "
            "the folder."
        )
    if broken := next((p for p in found if not p.exists()), None):
        raise DataError(
            f"{broken} is a link to {broken.readlink()}, which is not there. Mend or "
            "remove it."
        )
    return found


def passed_over(listing: Listing) -> list[Path]:
    """Visible files, in and below the folders of what is listed, that are not."""
    listed = {
        file
        for pictures in listing.values()
        for picture in pictures
        for file in picture
        if isinstance(file, Path)
    }
    return sorted(
        path
        for folder in {file.parent for file in listed}
        for path in folder.rglob("*")
        if path not in listed
        and path.is_file()
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def require_folders(root: Path, names: Iterable[str], layout: str) -> None:
    """Raises a `DataError` that shows the layout if a folder of `root` is missing."""
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise DataError(
            f"{root} has no folder {', '.join(missing)}. Expected the layout {layout}; "
            "give the folder that holds it as source_dir."
        )


def fingerprint(listing: Listing, root: Path) -> str:
    """Eight hex digits of the names and sizes of all files, and what they are of."""
    digest = hashlib.sha256()
    for split, pictures in sorted(listing.items()):
        for path, target in pictures:
            files = [path] if isinstance(target, str) else [path, target]
            for file in files:
                name = file.relative_to(root).as_posix()
                digest.update(f"{split} {name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:8]


def read_image(path: Path) -> bytes:
    """The bytes of an image file that decodes from beginning to end.

    Raises:
      DataError: if it does not.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is not an image that can be read ({error}). Replace or remove it."
        ) from error
    return path.read_bytes()
