"""Crops, flips and resizes: what happens to an image before the model sees it.

Every transform is a box of the image, resized to the wanted size in one pass. A dense
target is resized with the same box to the nearest value. Sizes are `(height, width)`,
boxes `(left, top, right, bottom)`, in pixels, not rounded.
"""

import math
from typing import Any

import numpy as np
from PIL import Image

from experiments.data import DataError
from experiments.data.examples import LABEL, Target, mirrored

Size = int | tuple[int, int]
Box = tuple[float, float, float, float]
Element = dict[str, Any]

RATIO = (3 / 4, 4 / 3)  # by how much a random crop is narrower or wider than `size`
# Of a box that is erased: shares of the area, and shapes.
ERASED, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)
_ATTEMPTS = 10


def height_width(size: Size) -> tuple[int, int]:
    """`(height, width)` of a size; one number is a square."""
    return (size, size) if isinstance(size, int) else size


def random_box(
    height: int,
    width: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
    aspect: float = 1.0,
    ratio: tuple[float, float] = RATIO,
) -> Box:
    """The box of a random resized crop.

    Args:
      height: of the image.
      width: of the image.
      scale: the least and the largest share of the image's area.
      rng: where the numbers come from.
      aspect: width to height of what the box becomes.
      ratio: the range of shapes, in parts of `aspect`.

    Returns:
      A box of whole pixels, its width to height in `ratio` of `aspect` on a log scale;
      the largest centred box with such a ratio if ten attempts do not fit.
    """
    low, high = ratio[0] * aspect, ratio[1] * aspect
    if scale[0] == 1:  # nothing is left to chance
        return centre_box(height, width, min(max(width / height, low), high))
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        shape = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return centre_box(height, width, min(max(width / height, low), high))


def centre_box(height: int, width: int, ratio: float, share: float = 1.0) -> Box:
    """The largest centred box with width / height = `ratio`, shrunk to a `share`."""
    h = min(height, width / ratio) * share
    w = h * ratio
    left, top = max(0.0, (width - w) / 2), max(0.0, (height - h) / 2)
    return left, top, min(left + w, width), min(top + h, height)


def crop(image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """One box of an image (h, w, 3), uint8, resized to `size`."""
    if _is_whole(image, box, size):
        return image
    (height, width), bilinear = size, Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), bilinear, box=box))


def nearest(field: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """One box of a field (h, w, ...), of any dtype, at the centres of `size` cells."""
    if _is_whole(field, box, size):
        return field
    rows, columns = (
        (low + (np.arange(cells) + 0.5) * (high - low) / cells).astype(int)
        for low, high, cells in zip(box[1::-1], box[:1:-1], size, strict=True)
    )
    return field[rows][:, columns]


def _is_whole(array: np.ndarray, box: Box, size: tuple[int, int]) -> bool:
    return box == (0, 0, array.shape[1], array.shape[0]) and size == array.shape[:2]


def apply(
    element: Element, box: Box, size: tuple[int, int], flip: bool, target: Target
) -> Element:
    """The same box and flip on the image and, if it is dense, on the target."""
    changed = element | {"image": crop(element["image"], box, size)}
    if target.dense:
        changed[target.name] = nearest(element[target.name], box, size)
    if flip:
        changed["image"] = mirrored(changed["image"])
        if target.dense:
            changed[target.name] = target.mirrored(changed[target.name])
    return changed


def erased(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image with noise in a box of it (Zhong et al. 2020, "Random erasing")."""
    height, width = image.shape[:2]
    box = random_box(height, width, ERASED, rng, width / height, ERASED_RATIO)
    left, top, right, bottom = map(int, box)
    changed = image.copy()
    inside = changed[top:bottom, left:right]
    inside[:] = rng.integers(0, 256, inside.shape, np.uint8)
    return changed


def augment(
    element: Element,
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    scale: tuple[float, float],
    flip: bool,
    target: Target = LABEL,
    magnitude: float = 0.0,
    erasing: float = 0.0,
) -> Element:
    """A random resized crop, mirrored half of the time if `flip`.

    After that `randaugment` of a magnitude above 0, then `erased` as often as `erasing`
    says; both are of the image alone.
    """
    height, width = element["image"].shape[:2]
    box = random_box(height, width, scale, rng, aspect=size[1] / size[0])
    changed = apply(element, box, size, flip and rng.random() < 0.5, target)
    if magnitude:
        from experiments.data.randaugment import randaugment  # few are trained so

        changed["image"] = randaugment(changed["image"], magnitude, rng)
    if erasing and rng.random() < erasing:
        changed["image"] = erased(changed["image"], rng)
    return changed


def centre_crop(
    element: Element,
    *,
    size: tuple[int, int],
    resize: int | None = None,
    target: Target = LABEL,
) -> Element:
    """The centre of an image whose shorter side is first resized to `resize`.

    By default the image is made as small as it can be and still cover `size`.

    Raises:
      DataError: if the resized image would not cover `size`.
    """
    height, width = element["image"].shape[:2]
    share = 1.0
    if resize is not None:
        cover = max(size[0] / height, size[1] / width)
        share = cover * min(height, width) / resize
        if share > 1 + 1e-9:
            raise DataError(
                f"data.resize = {resize} makes an image of {height} x {width} pixels "
                f"smaller than data.image_size = {size}; choose"
                f" {math.ceil(share * resize)} or more."
            )
    box = centre_box(height, width, size[1] / size[0], min(share, 1.0))
    return apply(element, box, size, flip=False, target=target)
