"""Images of your own, in one folder for each split and in it one for each class.

`<split>/<class>/*.jpg` (or png, webp, bmp), where a split is a domain too: `train`,
`val`, `art`, `night`. The classes are those of `train`, or without such a folder of the
split that has the most; the others may lack some, but may not have any that it has not.
"""

import re
from pathlib import Path

from experiments.data import DataError
from experiments.data.folders import DataSet, Listing, images, record, subfolders

LAYOUT = "<split>/<class>/*.{jpg,png,webp,bmp}"


def listing(root: Path) -> Listing:
    """The images of every split, and the classes that they share."""
    splits = subfolders(root)
    if not splits:
        raise DataError(f"{root} holds no folders; expected the layout {LAYOUT}.")
    classes = {split: _classes(root / split) for split in splits}
    leader = max(splits, key=lambda split: (split == "train", len(classes[split])))
    for split in splits:
        if strange := set(classes[split]) - set(classes[leader]):
            raise DataError(
                f"{root / split} has the class {', '.join(sorted(strange))}, which "
                f"{root / leader} has not. A split may lack classes of {leader}, but "
                f"have no others: add the class to {leader}, or move the folder out of "
                f"{root}."
            )
    names = tuple(classes[leader])
    return Listing(
        names,
        {
            split: [
                record(root, path, label=names.index(name))
                for name in classes[split]
                for path in images(root / split / name)
            ]
            for split in splits
        },
    )


def _classes(folder: Path) -> list[str]:
    """The classes of one split, sorted."""
    if folder.name == "all":
        raise DataError(
            f"{folder} names a split, and `all` stands for the sum of them. Rename it."
        )
    if not re.fullmatch(r"\w+", folder.name):
        raise DataError(
            f"{folder} names a split; use letters, digits and _ only. Rename it, or "
            f"give the folder above the splits as io.source_dir: {LAYOUT}."
        )
    classes = subfolders(folder)
    if not classes:
        raise DataError(
            f"{folder} is a split and must hold a folder for each class; expected the "
            f"layout {LAYOUT}, and io.source_dir the folder above the splits."
        )
    return classes


DATA_SET = DataSet(listing, LAYOUT)
