"""What the digits look like in each domain: appearances, and natural corruptions.

Appearances are other looks of the same white-on-black drawings. Corruptions are damage
that no model is ever trained on; they follow those of the usual benchmarks (noise,
blur, weather, digital), at one strength each that suits 16 x 16 pixels.

Every look maps images `(n, side, side)`, float32 in [0, 1], and a random generator to
images of the same shape, which the caller clips to that range. Nothing is changed in
place, and the same generator state gives the same images.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import ndimage

Look = Callable[[np.ndarray, Generator], np.ndarray]

# Per-image filters and morphology: nothing happens along the axis of the images.
_STROKE = (1, 3, 3)


def _uniform(rng: Generator, low: float, high: float, n: int) -> np.ndarray:
    """One number per image, shaped `(n, 1, 1)` to broadcast over its pixels."""
    return rng.uniform(low, high, (n, 1, 1))


def _warp(images: np.ndarray, matrices: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Resamples each image at `matrix @ (p - centre) + centre + shift`, bilinearly."""
    centre = (np.array(images.shape[1:]) - 1) / 2
    warped = [
        ndimage.affine_transform(
            image, matrix, centre - matrix @ centre + shift, order=1
        )
        for image, matrix, shift in zip(images, matrices, shifts, strict=True)
    ]
    return np.stack(warped)


def _cloud(shape: tuple[int, ...], sigma: float, rng: Generator) -> np.ndarray:
    """Blurred noise, each image stretched to span [0, 1]; `sigma` in pixels."""
    noise = ndimage.gaussian_filter(rng.random(shape), (0, sigma, sigma), mode="wrap")
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    return (noise - low) / (high - low)


def _averaged(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.convolve(images, kernel[None] / kernel.sum(), mode="constant")


# ---- Appearances -------------------------------------------------------------------


def striped(images: np.ndarray, rng: Generator) -> np.ndarray:
    """Strokes in front of a grating of random angle and period (4 to 8 pixels)."""
    n, height, width = images.shape
    angle = _uniform(rng, 0.0, np.pi, n)
    period = _uniform(rng, 4.0, 8.0, n)
    phase = _uniform(rng, 0.0, 2 * np.pi, n)
    y, x = np.mgrid[:height, :width]
    wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period + phase)
    return np.maximum(images, 0.3 * (1.0 + wave))


def rotated(images: np.ndarray, rng: Generator) -> np.ndarray:
    """Turned by 15 to 40 degrees either way."""
    n = len(images)
    angle = np.deg2rad(rng.uniform(15, 40, n)) * rng.choice([-1.0, 1.0], n)
    cos, sin = np.cos(angle), np.sin(angle)
    matrices = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return _warp(images, matrices, np.zeros((n, 2)))


def sheared(images: np.ndarray, rng: Generator) -> np.ndarray:
    """Slanted by 0.3 to 0.7 pixels per row either way."""
    n = len(images)
    matrices = np.tile(np.eye(2), (n, 1, 1))
    matrices[:, 1, 0] = rng.uniform(0.3, 0.7, n) * rng.choice([-1.0, 1.0], n)
    return _warp(images, matrices, np.zeros((n, 2)))


def shrunk(images: np.ndarray, rng: Generator) -> np.ndarray:
    """Drawn at 55 to 75 % of the size, anywhere within 2 pixels of the centre."""
    n = len(images)
    scale = _uniform(rng, 0.55, 0.75, n)
    return _warp(images, np.eye(2) / scale, rng.uniform(-2, 2, (n, 2)))


APPEARANCES: dict[str, Look] = {
    "clean": lambda images, _: images,
    # Dark strokes on a light page.
    "inverted": lambda images, _: 1.0 - images,
    # Strokes in front of a cloudy background.
    "cluttered": lambda images, rng: np.maximum(
        images, 0.7 * _cloud(images.shape, 1.2, rng)
    ),
    "striped": striped,
    # Strokes widened by a pixel on either side.
    "thick": lambda images, _: ndimage.grey_dilation(images, _STROKE),
    # Only the contours of the strokes.
    "outlined": lambda images, _: ndimage.morphological_gradient(images, _STROKE),
    "rotated": rotated,
    "sheared": sheared,
    "shrunk": shrunk,
}


# ---- Corruptions -------------------------------------------------------------------


def impulse_noise(images: np.ndarray, rng: Generator) -> np.ndarray:
    """A fifth of the pixels set to black or white."""
    hit = rng.random(images.shape) < 0.2
    return np.where(hit, rng.random(images.shape) < 0.5, images)


def defocus_blur(images: np.ndarray, _: Generator) -> np.ndarray:
    """Averaged over a disc of radius 2 pixels."""
    y, x = np.mgrid[-2:3, -2:3]
    return _averaged(images, (x**2 + y**2 <= 5).astype(np.float64))


def motion_blur(images: np.ndarray, rng: Generator) -> np.ndarray:
    """Averaged along 5 pixels of a row, a column or a diagonal."""
    row = np.zeros((5, 5))
    row[2] = 1
    kernels = (row, row.T, np.eye(5), np.eye(5)[::-1])
    blurred = np.stack([_averaged(images, kernel) for kernel in kernels])
    choice = rng.integers(0, len(kernels), len(images))
    return blurred[choice, np.arange(len(images))]


def occlusion(images: np.ndarray, rng: Generator) -> np.ndarray:
    """A grey square of 6 pixels somewhere in the middle of the image."""
    n, height, width = images.shape
    top = rng.integers(2, height - 7, (n, 1, 1))
    left = rng.integers(2, width - 7, (n, 1, 1))
    y, x = np.mgrid[:height, :width]
    hidden = (y >= top) & (y < top + 6) & (x >= left) & (x < left + 6)
    return np.where(hidden, 0.5, images)


def pixelation(images: np.ndarray, _: Generator) -> np.ndarray:
    """Blocks of 4 x 4 pixels replaced by their mean."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // 4, 4, width // 4, 4).mean((2, 4))
    return blocks.repeat(4, 1).repeat(4, 2)


CORRUPTIONS: dict[str, Look] = {
    "gaussian_noise": lambda images, rng: images + rng.normal(0.0, 0.3, images.shape),
    # At four photons for full white, over a faint glow.
    "shot_noise": lambda images, rng: rng.poisson(4.0 * (images + 0.1)) / 4.0,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "motion_blur": motion_blur,
    # A quarter of it, around mid-grey.
    "contrast": lambda images, _: 0.5 + 0.25 * (images - 0.5),
    # Half of the light replaced by a bright cloud.
    "fog": lambda images, rng: 0.5 * images + 0.5 * _cloud(images.shape, 3.0, rng),
    "occlusion": occlusion,
    "pixelation": pixelation,
}
