"""CamVid: street scenes with a class for every pixel (Brostow et al. 2009).

Read from folders `train`, `val` and `test` of images and `trainannot`, `valannot` and
`testannot` of masks, PNG files whose values are the classes. The names of the classes
are those of SegNet's version of the data; pixels of class 11 are void and never count.

Reference: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: A
high-definition ground truth database", Pattern Recognition Letters 30(2), 2009.
"""

from pathlib import Path

from experiments.data import DataError
from experiments.data.examples import MASK, Record
from experiments.data.folders import DataSet, Listing, images, record, require_folders

SPLITS = ("train", "val", "test")
CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
VOID = len(CLASSES)
LAYOUT = "{train,val,test}/*.jpg and {train,val,test}annot/*.png"


def listing(root: Path) -> Listing:
    """Each image with the mask of the same name."""
    require_folders(root, (s + end for s in SPLITS for end in ("", "annot")), LAYOUT)
    return Listing(CLASSES, {split: _pairs(root, split) for split in SPLITS})


def _pairs(root: Path, split: str) -> list[Record]:
    pictures, masks = root / split, root / f"{split}annot"
    by_name = {path.stem: path for path in images(masks)}
    pairs = [(path, by_name.pop(path.stem, None)) for path in images(pictures)]
    alone = [path for path, mask in pairs if mask is None] or list(by_name.values())
    if alone:
        raise DataError(
            f"{alone[0]} has no counterpart: every image in {pictures} needs a mask of "
            f"the same name in {masks}, and every mask an image."
        )
    return [record(root, path, segmentation=mask) for path, mask in pairs]


DATA_SET = DataSet(listing, LAYOUT, MASK, VOID)
