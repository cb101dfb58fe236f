"""Boxes, crops and flips."""

import numpy as np
import pytest
from PIL import Image

from experiments.data.examples import MASK
from experiments.data.randaugment import CHANGES, randaugment
from experiments.data.transforms import (
    RATIO,
    augment,
    centre_box,
    centre_crop,
    nearest,
    random_box,
)


@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_a_random_box_keeps_to_the_image_the_scale_and_the_ratio(aspect):
    rng = np.random.default_rng(0)
    boxes = [random_box(12, 20, (0.3, 0.8), rng, aspect) for _ in range(2000)]
    left, top, right, bottom = np.array(boxes).T
    assert {left.min(), top.min()} == {0}  # every edge is reached
    assert (right.max(), bottom.max()) == (20, 12)
    width, height = right - left, bottom - top
    share, ratio = width * height / (12 * 20), width / height / aspect
    assert 0.25 < share.min() < 0.35 < 0.7 < share.max() < 0.85
    assert RATIO[0] * 0.8 < ratio.min() < 0.9 < 1.1 < ratio.max() < RATIO[1] * 1.2


def test_where_no_random_box_fits_the_largest_centred_one_is_taken():
    box = random_box(30, 300, (1.0, 1.0), np.random.default_rng(0))
    np.testing.assert_allclose(box, (130, 0, 170, 30))


@pytest.mark.parametrize("shape", [(37, 91), (91, 37), (64, 64)])
@pytest.mark.parametrize("ratio", [1.0, 3.7, 1 / 3.3])
def test_a_centred_box_stays_in_the_image(shape, ratio):
    left, top, right, bottom = centre_box(*shape, ratio)
    assert 0 <= left < right <= shape[1]
    assert 0 <= top < bottom <= shape[0]
    assert (right - left) / (bottom - top) == pytest.approx(ratio)


def test_an_image_of_the_wanted_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        centre_crop({"image": image}, size=(24, 24))["image"], image
    )


def test_the_centre_is_cropped_and_the_shorter_side_resized():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 255  # the centred square
    small = centre_crop({"image": image}, size=(20, 20))["image"]
    assert small.shape == (20, 20, 3)
    assert small[:, 1:-1].min() == 255
    assert small[:, [0, -1]].min() > 200

    wide = centre_crop({"image": image}, size=(40, 60))["image"]
    assert wide.shape == (40, 60, 3)
    assert wide[:, :9].max() == 0
    assert wide[:, 11:49].min() == 255


def test_one_pass_gives_what_resizing_and_then_cropping_gives():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cropped = centre_crop({"image": image}, size=(28, 28), resize=32)["image"]
    resized = Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        cropped.astype(int), np.asarray(resized)[2:30, 10:38].astype(int), atol=1
    )


def test_half_of_the_images_are_mirrored_and_none_without_flip():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    rng, settings = np.random.default_rng(0), {"size": (16, 16), "scale": (0.9, 1.0)}

    def mirrored(flip):
        changed = augment({"image": image}, rng, **settings, flip=flip)["image"]
        return changed[8, 0, 0] < changed[8, -1, 0]

    assert 70 < sum(mirrored(True) for _ in range(200)) < 130
    assert not any(mirrored(False) for _ in range(50))


def test_a_mask_moves_with_its_image_and_keeps_its_labels():
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 50), np.uint8)
    mask[10:30, 25:] = 7
    mask[40:, :20] = 11
    image = 255 * np.stack([mask == 7, mask == 11, mask == 0], -1).astype(np.uint8)
    settings = {"size": (32, 48), "scale": (0.3, 1.0), "flip": True, "target": MASK}
    for _ in range(50):
        changed = augment({"image": image, "segmentation": mask}, rng, **settings)
        assert changed["segmentation"].shape == (32, 48)
        assert set(np.unique(changed["segmentation"])) <= {0, 7, 11}
        seen = np.array([7, 11, 0])[changed["image"].argmax(-1)]
        assert (seen == changed["segmentation"]).mean() > 0.97
        assert changed["image"].sum(-1).min() > 200  # no dark border comes in


def lit(side=64):
    """A bright square on dark ground, with colours and detail."""
    image = np.random.default_rng(0).integers(20, 60, (side, side, 3), dtype=np.uint8)
    image[side // 4 : -side // 4, side // 4 : -side // 4] += np.uint8([90, 120, 150])
    return image


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_change_is_the_stronger_the_higher_its_magnitude(number):
    image = Image.fromarray(lit())

    def distance(share, sign):
        changed = np.asarray(CHANGES[number](image, share, sign))
        assert (changed.dtype, changed.shape) == (np.uint8, (64, 64, 3))
        return np.abs(changed.astype(int) - np.asarray(image)).mean()

    for sign in (-1, 1):
        if number < 3:  # of one strength
            assert distance(0.1, sign) == distance(1.0, sign) > 0
        elif number == 4:  # to solarize moves a threshold down
            assert 0 == distance(0.1, sign) < distance(0.6, sign)
        else:
            assert distance(0.2, sign) < distance(1.0, sign)


def test_randaugment_makes_two_changes_at_most_and_the_generator_decides_which():
    image, rng = lit(), np.random.default_rng(0)
    made = [randaugment(image, 9, rng) for _ in range(400)]
    untouched = np.mean([(changed == image).all() for changed in made])
    assert 0.15 < untouched < 0.35, "both are left out a quarter of the time"
    again = np.random.default_rng(0)
    for changed in made[:20]:
        np.testing.assert_array_equal(changed, randaugment(image, 9, again))
    assert len({changed.tobytes() for changed in made}) > 200


def test_a_share_of_images_is_erased_by_a_box_of_noise():
    image = np.zeros((40, 60, 3), np.uint8)
    settings = {"size": (40, 60), "scale": (1.0, 1.0), "flip": False}
    rng, areas = np.random.default_rng(0), []
    for _ in range(400):
        changed = augment({"image": image}, rng, **settings, erasing=0.25)["image"]
        rows, columns = np.nonzero(changed.any(-1))
        if rows.size:
            box = changed[
                rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
            ]
            areas.append(box.shape[0] * box.shape[1] / 2400)
            assert box.any(-1).mean() > 0.99, "noise is nowhere else than in the box"
    assert 70 < len(areas) < 130
    assert 0.015 < min(areas) < 0.05 < 0.28 < max(areas) < 0.36
    assert not image.any(), "the image itself, which may be kept, stays as it is"


def test_the_nearest_values_of_a_box_are_those_that_pillow_takes():
    rng = np.random.default_rng(0)
    field = rng.integers(0, 256, (37, 53), dtype=np.uint8)
    for _ in range(100):
        box = random_box(37, 53, (0.1, 1.0), rng, aspect=1.4)
        box = tuple(side + rng.uniform(0, 0.01) for side in box[:2]) + box[2:]
        resized = Image.fromarray(field).resize((28, 20), Image.Resampling.NEAREST, box)
        np.testing.assert_array_equal(nearest(field, box, (20, 28)), resized)
