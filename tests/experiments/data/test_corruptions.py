"""Corruptions: strength, determinism, and what is left alone."""

import numpy as np
import pytest

from drawn_images import picture
from experiments.data.corruptions import CORRUPTIONS, corrupt

library = pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug")
NOISE = np.random.default_rng(0).normal(0, 20, (64, 64, 3))
# With detail, for blurs to take away.
LARGE = np.clip(picture(5, (64, 64)) + NOISE, 0, 255).astype(np.uint8)


def test_the_names_are_those_of_the_library():
    assert set(library.get_corruption_names("all")) == set(CORRUPTIONS)
    assert tuple(library.get_corruption_names("common")) == CORRUPTIONS[:15]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_the_image_and_the_seed_decides_how(name):
    before = LARGE.copy()
    for severity in (1, 2, 3, 4, 5):
        changed = corrupt(LARGE, name, severity, seed=7)
        assert (changed.dtype, changed.shape) == (np.uint8, LARGE.shape)
        assert (changed != LARGE).any()
        np.testing.assert_array_equal(changed, corrupt(LARGE, name, severity, seed=7))
    np.testing.assert_array_equal(before, LARGE)
    if name in ("shot_noise", "impulse_noise", "glass_blur", "fog"):
        assert (corrupt(LARGE, name, 3, 0) != corrupt(LARGE, name, 3, 1)).any()
    if name in ("gaussian_noise", "contrast", "pixelate", "fog"):
        distances = [
            np.abs(corrupt(LARGE, name, severity, 0).astype(int) - LARGE).mean()
            for severity in (1, 3, 5)
        ]
        assert distances[0] < distances[1] < distances[2]
    for shape in [(32, 32), (180, 240), (96, 33)]:
        assert corrupt(picture(0, shape), name, 5, 0).shape == (*shape, 3)


@pytest.mark.parametrize(
    "name", ["fog", "defocus_blur", "gaussian_noise", "brightness"]
)
def test_a_corruption_is_as_strong_on_images_of_any_size(name):
    """Fog's own map is square, with a power of two for its side."""
    stripes = 60 + 100 * (np.indices((700, 700)).sum(0) // 4 % 2)
    image = np.repeat(stripes.astype(np.uint8)[..., None], 3, axis=-1)

    def change(height, width):
        part = image[:height, :width]
        changed = [corrupt(part, name, 3, seed).astype(int) - part for seed in range(3)]
        return np.abs(changed).mean()

    for shape in [(448, 448), (500, 375), (33, 700)]:
        assert change(*shape) == pytest.approx(change(224, 224), rel=0.1)


def test_an_image_that_no_drop_fell_on_is_left_as_it_is():
    """The library divides zero by zero there, and the image would turn black."""
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    for seed in range(150):
        assert corrupt(image, "spatter", 1, seed).mean() > image.mean() - 10


def test_the_global_generator_is_put_back():
    # The global one it has to be: the library draws from it.
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    corrupt(LARGE, "snow", 2, 11)
    assert np.random.random() == expected  # noqa: NPY002
