"""Corruptions: strength, determinism, and what is refused."""

import sys

import numpy as np
import pytest

from drawn_images import picture
from experiments.data import corruptions
from experiments.data.corruptions import COMMON, CORRUPTIONS, SEVERITIES, corrupt

imported = pytest.mark.usefixtures("library")
LARGE = picture(5, (64, 64))
LARGE = np.clip(LARGE + np.random.default_rng(0).normal(0, 20, LARGE.shape), 0, 255)
LARGE = LARGE.astype(np.uint8)  # with detail, for blurs to take away


@pytest.fixture
def library():
    pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug")


@imported
def test_the_names_are_those_of_the_library():
    from imagecorruptions import get_corruption_names

    assert set(get_corruption_names("all")) == set(CORRUPTIONS)
    assert tuple(get_corruption_names("common")) == COMMON


@imported
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_the_image_and_the_seed_decides_how(name):
    before = LARGE.copy()
    for severity in SEVERITIES:
        changed = corrupt(LARGE, name, severity, seed=7)
        assert changed.dtype == np.uint8
        assert changed.shape == LARGE.shape
        assert (changed != LARGE).any()
        np.testing.assert_array_equal(changed, corrupt(LARGE, name, severity, seed=7))
    np.testing.assert_array_equal(before, LARGE)


@imported
@pytest.mark.parametrize("name", ["shot_noise", "impulse_noise", "glass_blur", "fog"])
def test_another_seed_gives_another_image(name):
    assert (corrupt(LARGE, name, 3, 0) != corrupt(LARGE, name, 3, 1)).any()


@imported
@pytest.mark.parametrize("name", ["gaussian_noise", "contrast", "pixelate", "fog"])
def test_a_higher_severity_is_further_from_the_image(name):
    distances = [
        np.abs(corrupt(LARGE, name, severity, 0).astype(int) - LARGE).mean()
        for severity in (1, 3, 5)
    ]
    assert distances[0] < distances[1] < distances[2]


@imported
@pytest.mark.parametrize("shape", [(32, 32), (180, 240), (96, 33)])
def test_images_may_have_any_size_from_32_pixels(shape):
    for name in CORRUPTIONS:
        assert corrupt(picture(0, shape), name, 5, 0).shape == (*shape, 3)


@imported
def test_an_image_that_no_drop_fell_on_is_left_as_it_is():
    """The library divides zero by zero there, and the image would turn black."""
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    for seed in range(150):
        assert corrupt(image, "spatter", 1, seed).mean() > image.mean() - 10


@imported
def test_the_global_generator_is_put_back():
    # The global one it has to be: the library draws from it.
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    corrupt(LARGE, "snow", 2, 11)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LARGE, "rain", 1), "corruption must be one of .* got 'rain'"),
        ((LARGE, "fog", 0), "severity must be one of"),
        ((LARGE / 255, "fog", 1), r"image must be uint8 \(h, w, 3\), got float64"),
        ((LARGE[..., 0], "fog", 1), r"image must be uint8 \(h, w, 3\)"),
        ((LARGE[:20], "fog", 1), "Corruptions need 32 pixels a side"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments, seed=0)


def test_a_library_that_is_not_there_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    corruptions._library.cache_clear()
    with pytest.raises(ImportError, match="pip install imagecorruptions-imaug"):
        corrupt(LARGE, "fog", 1, 0)
