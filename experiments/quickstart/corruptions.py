"""Natural corruptions: damage that no model here is ever trained on.

The functions follow those of the usual benchmarks (noise, blur, weather, digital), at
one strength each that suits 16 x 16 pixels. Every function maps images
`(n, side, side)`, float32 in [0, 1], and a random generator to images of the same shape
and range.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from experiments.quickstart.appearances import smooth_noise

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _unit(images: np.ndarray) -> np.ndarray:
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def gaussian_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Additive noise of standard deviation 0.3."""
    return _unit(images + rng.normal(0.0, 0.3, images.shape))


def shot_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise at four photons for full white, over a faint glow."""
    return _unit(rng.poisson(4.0 * (images + 0.1)) / 4.0)


def impulse_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fifth of the pixels set to black or white."""
    hit = rng.random(images.shape) < 0.2
    return _unit(np.where(hit, rng.random(images.shape) < 0.5, images))


def defocus_blur(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Averaged over a disc of radius 2 pixels."""
    del rng
    y, x = np.mgrid[-2:3, -2:3]
    disc = (x**2 + y**2 <= 5).astype(np.float64)
    return _unit(ndimage.convolve(images, disc[None] / disc.sum(), mode="constant"))


def motion_blur(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Averaged along 5 pixels of a row, a column or a diagonal."""
    row = np.zeros((5, 5))
    row[2] = 1 / 5
    diagonal = np.eye(5) / 5
    kernels = (row, row.T, diagonal, diagonal[::-1])
    blurred = np.stack(
        [ndimage.convolve(images, kernel[None], mode="constant") for kernel in kernels]
    )
    choice = rng.integers(0, len(kernels), len(images))
    return _unit(blurred[choice, np.arange(len(images))])


def contrast(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the contrast, around mid-grey."""
    del rng
    return _unit(0.5 + 0.25 * (images - 0.5))


def fog(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the light replaced by a bright cloud."""
    return _unit(0.5 * images + 0.5 * smooth_noise(images.shape, 3.0, rng))


def occlusion(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey square of 6 pixels somewhere in the middle of the image."""
    n, height, width = images.shape
    top = rng.integers(2, height - 7, (n, 1, 1))
    left = rng.integers(2, width - 7, (n, 1, 1))
    y, x = np.mgrid[:height, :width]
    hidden = (y >= top) & (y < top + 6) & (x >= left) & (x < left + 6)
    return _unit(np.where(hidden, 0.5, images))


def pixelation(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blocks of 4 x 4 pixels replaced by their mean."""
    del rng
    n, height, width = images.shape
    blocks = images.reshape(n, height // 4, 4, width // 4, 4).mean((2, 4))
    return _unit(blocks.repeat(4, 1).repeat(4, 2))


CORRUPTIONS: dict[str, Corruption] = {
    f.__name__: f
    for f in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        motion_blur,
        contrast,
        fog,
        occlusion,
        pixelation,
    )
}
