"""CamVid: street scenes with a class for every pixel (Brostow et al. 2009).

Read from folders `train`, `val` and `test` of images and `trainannot`, `valannot` and
`testannot` of masks, PNG files whose values are the classes. The names of the classes
are those of SegNet's version of the data; pixels of class 11 are void and never count.

Reference: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: A
high-definition ground truth database", Pattern Recognition Letters 30(2), 2009.
"""

from pathlib import Path

from experiments.data.examples import MASK
from experiments.data.folders import (
    PARTS,
    DataSet,
    Listing,
    require_folders,
    with_masks,
)

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
    require_folders(root, (p + end for p in PARTS for end in ("", "annot")), LAYOUT)
    return Listing(
        CLASSES, {p: with_masks(root, root / p, root / f"{p}annot") for p in PARTS}
    )


DATA_SET = DataSet(listing, LAYOUT, MASK, VOID)
