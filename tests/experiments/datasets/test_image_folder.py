"""Folders of one's own: splits, classes, and what is refused."""

import numpy as np
import pytest

from drawn_images import draw_folder, picture, save
from experiments.datasets.errors import DataError
from experiments.datasets.sources import open_source

COUNTS = {"train": {"cat": 4, "dog": 3, "owl": 2}, "night": {"dog": 2, "owl": 1}}


def opened(tmp_path, split="train"):
    return open_source(f"image_folder:{split}", tmp_path / "data", tmp_path / "own")


def test_a_split_may_lack_classes_and_keeps_the_labels_of_the_rest(tmp_path):
    draw_folder(tmp_path / "own", COUNTS)
    train, night = opened(tmp_path), opened(tmp_path, "night")
    assert train.class_names == night.class_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(np.bincount(train.labels), [4, 3, 2])
    np.testing.assert_array_equal(np.bincount(night.labels), [0, 2, 1])


def test_splits_can_be_sliced_and_added(tmp_path):
    draw_folder(tmp_path / "own", COUNTS)
    assert len(opened(tmp_path, "train[:4]+night")) == 4 + 3


def test_a_folder_that_changed_is_prepared_anew(tmp_path):
    root = draw_folder(tmp_path / "own", COUNTS)
    assert len(opened(tmp_path)) == 9
    save(picture(99), root / "train/cat/new.png")
    assert len(opened(tmp_path)) == 10
    assert len(list((tmp_path / "data/image_folder").iterdir())) == 2


def test_images_of_any_mode_become_rgb_and_other_files_are_passed_over(tmp_path):
    root = draw_folder(tmp_path / "own", {"train": {"cat": 1}})
    save(np.full((8, 9), 77, np.uint8), root / "train/dog/grey.png")
    save(np.full((8, 9, 4), 77, np.uint8), root / "train/dog/transparent.PNG")
    (root / "train/dog/notes.txt").write_text("not an image")
    source = opened(tmp_path)
    dogs = [source[i]["image"] for i in np.flatnonzero(source.labels == 1)]
    assert len(dogs) == 2
    for image in dogs:
        np.testing.assert_array_equal(image, np.full((8, 9, 3), 77, np.uint8))


def test_a_class_that_another_split_lacks_is_refused(tmp_path):
    draw_folder(tmp_path / "own", {**COUNTS, "day": {"cat": 1, "fox": 1}})
    with pytest.raises(DataError, match=r"day has the class fox, which .*train has"):
        opened(tmp_path)


def test_a_missing_level_is_told(tmp_path):
    draw_folder(tmp_path, {"own": {"cat": 2, "dog": 2}})
    with pytest.raises(DataError, match=r"cat is a split and must hold a folder for"):
        opened(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    root = draw_folder(tmp_path / "own", COUNTS)
    (root / "train/ant").mkdir()
    with pytest.raises(DataError, match="ant holds no images"):
        opened(tmp_path)


def test_a_split_that_no_spec_can_name_is_refused(tmp_path):
    draw_folder(tmp_path / "own", {"train": {"cat": 1}, "my-night": {"cat": 1}})
    with pytest.raises(DataError, match="my-night names a split; use letters"):
        opened(tmp_path)


def test_a_corrupt_image_is_named(tmp_path):
    root = draw_folder(tmp_path / "own", COUNTS)
    (root / "night/owl/0.png").write_text("not an image")
    with pytest.raises(DataError, match=r"owl.0.png is not an image"):
        opened(tmp_path)


def test_the_folder_must_be_given_and_be_there(tmp_path):
    with pytest.raises(DataError, match="needs source_dir"):
        open_source("image_folder:train", tmp_path)
    with pytest.raises(DataError, match=r"There is no folder .*own"):
        opened(tmp_path)
    (tmp_path / "own").mkdir()
    with pytest.raises(DataError, match="own holds no folders"):
        opened(tmp_path)
