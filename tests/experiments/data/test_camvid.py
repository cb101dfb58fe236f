"""CamVid: images with their masks, and the layouts that are refused."""

import numpy as np
import pytest

from drawn_images import draw_camvid, save
from experiments.data import DataError
from experiments.data.camvid import CLASSES, VOID
from experiments.data.examples import MASK
from experiments.data.sources import open_source


def test_masks_belong_to_their_images(tmp_path):
    root = draw_camvid(tmp_path / "images")
    source = open_source("camvid:val", tmp_path / "data", root)
    assert (source.target, source.ignore_label) == (MASK, VOID)
    assert source.class_names == CLASSES
    assert source.num_classes == 11
    assert len(source) == 3
    voids = set()
    for i in range(3):
        example = source[i]
        image, mask = example["image"], example["segmentation"]
        assert image.dtype == mask.dtype == np.uint8
        assert (image.shape, mask.shape) == ((40, 40, 3), (40, 40))
        np.testing.assert_array_equal(image[..., 0] == 255, mask == 3)
        np.testing.assert_array_equal(image[..., 2] == 255, mask == VOID)
        voids.add(int((mask == VOID).sum()))
    assert voids == {40, 80, 120}


def test_there_are_no_labels_to_ask_for(tmp_path):
    root = draw_camvid(tmp_path / "images", images=1)
    source = open_source("camvid:train", tmp_path / "data", root)
    with pytest.raises(DataError, match="a mask for each image, not a label"):
        source.labels  # noqa: B018, to ask is to raise


def refused(tmp_path, root, message):
    with pytest.raises(DataError, match=message):
        open_source("camvid:train", tmp_path / "data", root)


def test_an_image_without_a_mask_is_named(tmp_path):
    root = draw_camvid(tmp_path / "images")
    (root / "trainannot/frame_1.png").unlink()
    refused(tmp_path, root, r"train.frame_1.png has no counterpart")


def test_a_mask_without_an_image_is_named(tmp_path):
    root = draw_camvid(tmp_path / "images")
    (root / "test/frame_2.png").unlink()
    refused(tmp_path, root, r"testannot.frame_2.png has no counterpart")


def test_a_missing_folder_is_named(tmp_path):
    root = draw_camvid(tmp_path / "images", images=1)
    (root / "valannot").rename(root / "valmasks")
    refused(tmp_path, root, "has no folder valannot")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((40, 40), 12, np.uint8), "has the class 12; the last is 11"),
        (np.zeros((20, 40), np.uint8), r"is of size \(40, 20\)"),
        (np.zeros((40, 40, 3), np.uint8), "has the mode RGB"),
    ],
)
def test_a_mask_of_another_kind_is_named(tmp_path, mask, message):
    root = draw_camvid(tmp_path / "images")
    save(mask, root / "trainannot/frame_0.png")
    refused(tmp_path, root, r"trainannot.frame_0.png " + message)
