"""Images of your own with a class for every pixel, in masks of the same names.

`img/*.jpg` (or png, webp, bmp); one more folder, of any name, with PNG masks; and
`classes.txt`, a line for each class in the order of the masks' values, which may open
with that value. Pixels of 255 do not count. The images are split by a fixed rule, that
of `folders.parted`, into `train`, `val` and `test`.
"""

from pathlib import Path

from experiments.data import DataError
from experiments.data.examples import MASK
from experiments.data.folders import (
    DataSet,
    Listing,
    parted,
    require_folders,
    subfolders,
    with_masks,
)

IMAGES = "img"
LAYOUT = "img/*.jpg, <another folder>/*.png and classes.txt"


def listing(root: Path) -> Listing:
    """Each image with its mask."""
    require_folders(root, [IMAGES], LAYOUT)
    others = [name for name in subfolders(root) if name != IMAGES]
    if len(others) != 1:
        raise DataError(
            f"{root} has {len(others)} folders beside {IMAGES}; expected one with the "
            f"masks, as in the layout {LAYOUT}."
        )
    records = with_masks(root, root / IMAGES, root / others[0])
    return Listing(_class_names(root / "classes.txt"), parted(records))


def _class_names(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        raise DataError(f"There is no file {file}; expected the layout {LAYOUT}.")
    lines = [line for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    numbered = all(len(p) == 2 and p[0] == str(i) for i, p in enumerate(pairs))
    names = tuple(pair[1] if numbered else " ".join(pair) for pair in pairs)
    if len(names) < 2 or len({*names}) < len(names):
        raise DataError(
            f"{file} names the classes {', '.join(names)}; expected two or more, each "
            "on a line of its own and once."
        )
    return tuple(name.strip() for name in names)


DATA_SET = DataSet(listing, LAYOUT, MASK, ignore_label=255)
