"""PASCAL-Context for several tasks: one set of images with three kinds of targets.

Read in place from the distribution of Maninis et al., `PASCAL_MT`; nothing is copied.
`pascal_context/semseg` has the 20 classes of VOC and the background, with 255 where
nothing counts; `pascal_context/parts` six parts of human bodies and the background, of
images that show a person with parts, others being left out; `pascal_context/normals`
the surface normals that another network gave, where the image shows a class that NYUv2
knows. The splits are those of `ImageSets/Context`.

References: Chen et al., "Detect what you can: detecting and representing objects using
holistic models and body parts", CVPR 2014; Mottaghi et al., "The role of context for
object detection and semantic segmentation in the wild", CVPR 2014; Maninis, Radosavovic
and Kokkinos, "Attentive single-tasking of multiple tasks", CVPR 2019.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from experiments.data import DataError
from experiments.data.examples import MASK, NORMALS, Target, unit_vectors
from experiments.data.folders import DataSet, Listing, record

SPLITS = ("train", "val")
IGNORED = 255
# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)
PERSON = CLASSES.index("person")
PARTS = {
    "background": (),
    "head": (
        "hair", "head", "lear", "lebrow", "leye", "mouth", "nose", "rear", "rebrow",
        "reye",
    ),
    "torso": ("neck", "torso"),
    "upper arms": ("luarm", "ruarm"),
    "lower arms": ("lhand", "llarm", "rhand", "rlarm"),
    "upper legs": ("luleg", "ruleg"),
    "lower legs": ("lfoot", "llleg", "rfoot", "rlleg"),
}
# Of the 459 classes of the label maps, those that NYUv2 has under the same name, less
# "unknown", and the television.
WITH_NORMALS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41,
    43, 46, 49, 50, 51, 53, 55, 56, 59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84,
    85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135, 141, 142,
    143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195,
    197, 199, 202, 213, 215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239,
    242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272, 273, 275, 281, 283,
    284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315,
    319, 323, 329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370,
    371, 374, 379, 380, 383, 384, 397, 401, 403, 405, 407, 408, 411, 412, 413, 414,
    417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)
# fmt: on
LAYOUT = (
    "ImageSets/Context/{train,val}.txt, JPEGImages/<id>.jpg, semseg/, human_parts/, "
    "normals_distill/ and pascal-context/ of PASCAL_MT"
)
LABEL_OF = {part: i for i, names in enumerate(PARTS.values()) for part in names}


def data_set(
    class_names: tuple[str, ...], target: Target, files: Callable[[Path, str], Any]
) -> DataSet:
    """One of the targets; `files` says where in a folder that of an image is."""
    read = functools.partial(listing, class_names, target.name, files)
    return DataSet(read, LAYOUT, target, IGNORED)


def listing(
    class_names: tuple[str, ...],
    target: str,
    files: Callable[[Path, str], Any],
    root: Path,
) -> Listing:
    """Every image that the lists name, with one of the targets."""
    lists = {split: root / f"ImageSets/Context/{split}.txt" for split in SPLITS}
    if missing := [file for file in lists.values() if not file.is_file()]:
        raise DataError(
            f"There is no list {missing[0]}; expected the layout {LAYOUT}, and "
            "io.source_dir the folder that holds it."
        )
    splits = {
        split: [
            record(
                root,
                root / f"JPEGImages/{name}.jpg",
                line=f"{file}, line {number}",
                **{target: files(root, name)},
            )
            for number, name in enumerate(file.read_text("utf-8").split(), start=1)
        ]
        for split, file in lists.items()
    }
    return Listing(class_names, splits, lists)


# ---- Where targets are, and what they say --------------------------------------------


def semseg_file(root: Path, name: str) -> Path:
    """The mask of VOC where there is one, else that of PASCAL-Context."""
    voc = root / f"semseg/VOC12/{name}.png"
    return voc if voc.is_file() else root / f"semseg/pascal-context/{name}.png"


def parts_file(root: Path, name: str) -> Path:
    return root / f"human_parts/{name}.mat"


def normals_files(root: Path, name: str) -> tuple[Path, Path]:
    """The vectors as colours, and the label map that says where they count."""
    labels = root / f"pascal-context/trainval/{name}.mat"
    return root / f"normals_distill/{name}.png", labels


def of_matlab(file: Path, read: Callable[[dict[str, Any]], Any]) -> Any:
    """What `read` takes from an annotation."""
    try:
        return read(scipy.io.loadmat(file))
    except Exception as error:  # what is damaged fails anywhere
        raise DataError(
            f"{file} is not an annotation that can be read ({error!r}). Replace it."
        ) from error


def human_parts(file: Path) -> np.ndarray:
    """`(h, w)`, uint8: the parts of all persons; nothing counts where there is none."""
    shape, parts = of_matlab(file, _parts)
    labels = np.full(shape, 0 if parts else IGNORED, np.uint8)
    for name, inside in parts:
        if name not in LABEL_OF:
            raise DataError(
                f"{file} has the part {name!r} of a person; expected one of "
                f"{', '.join(LABEL_OF)}."
            )
        if inside.shape != shape:
            raise DataError(
                f"{file} has the part {name!r} of {inside.shape} pixels in an image of "
                f"{shape}."
            )
        labels[inside] = LABEL_OF[name]
    return labels


def _parts(content: dict[str, Any]) -> tuple[Any, list[tuple[str, np.ndarray]]]:
    """The size of the image, and the parts of every person, as they were saved."""
    # Objects are (name, class, mask, parts), and parts (name, mask).
    objects = content["anno"][0, 0][1][0]
    persons = [parts for _, kind, _, parts in objects if kind.item() == PERSON]
    return objects[0][2].shape, [
        (name.item(), inside.astype(bool))
        for parts in persons
        if len(parts)
        for name, inside in parts[0]
    ]


def normals(files: tuple[Path, Path]) -> np.ndarray:
    """`(h, w, 3)`, float32: unit vectors, 0 where they do not count."""
    vectors = unit_vectors(files[0])
    labels = of_matlab(files[1], lambda content: content["LabelMap"])
    if labels.shape != vectors.shape[:2]:
        raise DataError(
            f"{files[1]} is of {labels.shape} pixels, but {files[0]} of "
            f"{vectors.shape[:2]}."
        )
    return vectors * np.isin(labels, WITH_NORMALS)[..., None]


DATA_SET = {
    "semseg": data_set(CLASSES, MASK, semseg_file),
    "parts": data_set(
        tuple(PARTS), dataclasses.replace(MASK, decode=human_parts), parts_file
    ),
    "normals": data_set(
        (), dataclasses.replace(NORMALS, decode=normals), normals_files
    ),
}
