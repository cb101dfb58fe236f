"""What the digits look like in each domain: appearances, and natural corruptions.

Appearances are other looks of the same white-on-black drawings. Corruptions are damage
that no model is ever trained on; they follow those of the usual benchmarks (noise,
blur, weather, digital), at one strength each that suits 16 x 16 pixels.

Every function maps images `(n, side, side)`, float32 in [0, 1], and a random generator
to images of the same shape and range. Nothing is changed in place, and the same
generator state gives the same images.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Look = Callable[[np.ndarray, np.random.Generator], np.ndarray]

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


APPEARANCES: dict[str, Look] = {
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


# ---- Corruptions -------------------------------------------------------------------


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


CORRUPTIONS: dict[str, Look] = {
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
