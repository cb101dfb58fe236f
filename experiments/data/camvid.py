"""CamVid: street scenes with a class for every pixel (Brostow et al. 2009).

Read from folders `train`, `val` and `test` of images and `trainannot`, `valannot` and
`testannot` of masks, PNG files whose values are the classes. The names of the classes
are those of SegNet's version of the data; pixels of class 11 are void and never count.

Reference: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: A
high-definition ground truth database", Pattern Recognition Letters 30(2), 2009.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.data import DataError
from experiments.data.folders import (
    FolderBuilder,
    Listing,
    Picture,
    images,
    read_image,
    require_folders,
)

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


class Camvid(FolderBuilder):
    """Features `image`, uint8 (h, w, 3), and `segmentation`, uint8 (h, w, 1)."""

    name = "camvid"
    VERSION = tfds.core.Version("1.0.0")
    LAYOUT = "{train,val,test}/*.jpg and {train,val,test}annot/*.png"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"A folder with the layout {LAYOUT}."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Street scenes with one of 11 classes, or void, a pixel.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "segmentation": tfds.features.LabeledImage(
                        labels=[*CLASSES, "void"], shape=(None, None, 1)
                    ),
                }
            ),
            metadata=tfds.core.MetadataDict(ignore_label=VOID),
            citation="Brostow et al., Semantic object classes in video, 2009",
        )

    def listing(self, root: Path) -> Listing:
        require_folders(
            root, (s + end for s in SPLITS for end in ("", "annot")), self.LAYOUT
        )
        return {split: _pairs(root / split, root / f"{split}annot") for split in SPLITS}

    def example(self, picture: Picture) -> dict[str, Any]:
        mask = Path(picture.target)
        image, segmentation = read_image(picture.path), read_image(mask)
        _check_mask(Image.open(io.BytesIO(segmentation)), mask, _size(image))
        return {"image": image, "segmentation": segmentation}


def _pairs(pictures: Path, masks: Path) -> list[Picture]:
    """Each image with the mask of the same name."""
    by_name = {path.stem: path for path in images(masks)}
    pairs = [Picture(p, by_name.pop(p.stem, Path())) for p in images(pictures)]
    alone = [p.path for p in pairs if p.target == Path()] or list(by_name.values())
    if alone:
        raise DataError(
            f"{alone[0]} has no counterpart: every image in {pictures} needs a mask of "
            f"the same name in {masks}, and every mask an image."
        )
    return pairs


def _size(image: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(image)).size


def _check_mask(mask: Image.Image, path: Path, size: tuple[int, int]) -> None:
    if mask.mode not in ("L", "P"):
        raise DataError(
            f"{path} has the mode {mask.mode}; a mask has one channel of 8 bits whose "
            "values are the classes."
        )
    if mask.size != size:
        raise DataError(f"{path} is of size {mask.size}, but its image of {size}.")
    highest = int(np.asarray(mask).max())
    if highest > VOID:
        raise DataError(f"{path} has the class {highest}; the last is {VOID}, void.")
