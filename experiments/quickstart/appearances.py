"""Appearance domains: other looks of the same white-on-black drawings.

Every function maps images `(n, side, side)`, float32 in [0, 1], and a random generator
to images of the same shape and range. Nothing is changed in place, and the same
generator state gives the same images.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Appearance = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# Per-image filters and morphology: nothing happens along the axis of the images.
_STROKE = (1, 3, 3)


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> np.ndarray:
    """One number per image, shaped `(n, 1, 1)` to broadcast over its pixels."""
    return rng.uniform(low, high, (n, 1, 1))


def _unit(images: np.ndarray) -> np.ndarray:
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def _warp(images: np.ndarray, matrices: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Resamples each image at `matrix @ (p - centre) + centre + shift`, bilinearly."""
    centre = (np.array(images.shape[1:]) - 1) / 2
    warped = [
        ndimage.affine_transform(
            image, matrix, centre - matrix @ centre + shift, order=1
        )
        for image, matrix, shift in zip(images, matrices, shifts, strict=True)
    ]
    return _unit(np.stack(warped))


def smooth_noise(shape: tuple[int, ...], sigma: float, rng) -> np.ndarray:
    """Blurred noise, each image stretched to span [0, 1]; `sigma` in pixels."""
    noise = ndimage.gaussian_filter(rng.random(shape), (0, sigma, sigma), mode="wrap")
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    return (noise - low) / (high - low)


def clean(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images as they are."""
    del rng
    return images.astype(np.float32)


def inverted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark strokes on a light page."""
    del rng
    return _unit(1.0 - images)


def cluttered(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes in front of a cloudy background."""
    background = 0.7 * smooth_noise(images.shape, 1.2, rng)
    return _unit(np.maximum(images, background))


def striped(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes in front of a grating of random angle and period (4 to 8 pixels)."""
    n, height, width = images.shape
    angle = _uniform(rng, 0.0, np.pi, n)
    period = _uniform(rng, 4.0, 8.0, n)
    phase = _uniform(rng, 0.0, 2 * np.pi, n)
    y, x = np.mgrid[:height, :width]
    wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period + phase)
    return _unit(np.maximum(images, 0.3 * (1.0 + wave)))


def thick(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes widened by a pixel on either side."""
    del rng
    return _unit(ndimage.grey_dilation(images, _STROKE))


def outlined(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Only the contours of the strokes."""
    del rng
    return _unit(ndimage.morphological_gradient(images, _STROKE))


def rotated(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 15 to 40 degrees either way."""
    n = len(images)
    angle = np.deg2rad(rng.uniform(15, 40, n)) * rng.choice([-1.0, 1.0], n)
    cos, sin = np.cos(angle), np.sin(angle)
    matrices = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return _warp(images, matrices, np.zeros((n, 2)))


def sheared(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slanted by 0.3 to 0.7 pixels per row either way."""
    n = len(images)
    matrices = np.tile(np.eye(2), (n, 1, 1))
    matrices[:, 1, 0] = rng.uniform(0.3, 0.7, n) * rng.choice([-1.0, 1.0], n)
    return _warp(images, matrices, np.zeros((n, 2)))


def shrunk(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drawn at 55 to 75 % of the size, anywhere within 2 pixels of the centre."""
    n = len(images)
    scale = rng.uniform(0.55, 0.75, (n, 1, 1))
    return _warp(images, np.eye(2) / scale, rng.uniform(-2, 2, (n, 2)))


APPEARANCES: dict[str, Appearance] = {
    f.__name__: f
    for f in (
        clean,
        inverted,
        cluttered,
        striped,
        thick,
        outlined,
        rotated,
        sheared,
        shrunk,
    )
}
