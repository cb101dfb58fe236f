"""RandAugment: two changes of an image, drawn at random, of one strength.

The fifteen changes, and how strong each is at a magnitude, are those with which DeiT
was trained: geometry within 30 degrees, shears of 0.3 and shifts of 0.45 of a side at
magnitude 10, colours in proportion. Magnitudes vary by half a step from image to image,
and a change that was drawn is applied half of the time.

References: Cubuk, Zoph, Shlens and Le, "RandAugment: practical automated data
augmentation with a reduced search space", NeurIPS 2020; Touvron et al., "Training
data-efficient image transformers and distillation through attention", ICML 2021.
"""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

HIGHEST = 10  # magnitude
DRAWN = 2  # an image, each made with PROBABILITY
PROBABILITY = 0.5
SPREAD = 0.5  # standard deviation of the magnitude
FILL = (124, 116, 104)  # where an image has moved away; the mean of ImageNet

# (image, strength in [0, 1], sign) -> image
Change = Callable[[Image.Image, float, int], Image.Image]


def _enhanced(kind: type, image: Image.Image, share: float, sign: int) -> Image.Image:
    return kind(image).enhance(1 + sign * 0.9 * share)


def _rotated(image: Image.Image, share: float, sign: int) -> Image.Image:
    return image.rotate(sign * 30 * share, Image.Resampling.BILINEAR, fillcolor=FILL)


def _moved(
    coefficient: int, most: float, image: Image.Image, share: float, sign: int
) -> Image.Image:
    """By one coefficient of x' = a x + b y + c, y' = d x + e y + f."""
    matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    side = {2: image.width, 5: image.height}.get(coefficient, 1)
    matrix[coefficient] = sign * most * share * side
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=FILL,
    )


def _brightened(image: Image.Image, share: float, sign: int) -> Image.Image:
    """Adds up to 110 to values below 128."""
    del sign
    table = [min(255, v + int(110 * share)) if v < 128 else v for v in range(256)]
    return image.point(3 * table)


CHANGES: tuple[Change, ...] = (
    lambda image, share, sign: ImageOps.autocontrast(image),
    lambda image, share, sign: ImageOps.equalize(image),
    lambda image, share, sign: ImageOps.invert(image),
    lambda image, share, sign: ImageOps.posterize(image, max(1, 4 - int(4 * share))),
    lambda image, share, sign: ImageOps.solarize(image, 255 - int(255 * share)),
    _brightened,
    *(
        functools.partial(_enhanced, kind)
        for kind in (
            ImageEnhance.Color,
            ImageEnhance.Contrast,
            ImageEnhance.Brightness,
            ImageEnhance.Sharpness,
        )
    ),
    _rotated,
    *(  # shears, and shifts
        functools.partial(_moved, coefficient, most)
        for coefficient, most in ((1, 0.3), (3, 0.3), (2, 0.45), (5, 0.45))
    ),
)


def randaugment(
    image: np.ndarray, magnitude: float, rng: np.random.Generator
) -> np.ndarray:
    """An image (h, w, 3), uint8, with up to two changes of a magnitude in [0, 10]."""
    changed = Image.fromarray(image)
    for index in rng.integers(len(CHANGES), size=DRAWN):
        share = float(np.clip(rng.normal(magnitude, SPREAD), 0, HIGHEST)) / HIGHEST
        sign = 1 if rng.random() < 0.5 else -1
        if rng.random() < PROBABILITY:
            changed = CHANGES[index](changed, share, sign)
    return np.asarray(changed)
