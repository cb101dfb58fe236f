"""Folders of one's own: splits, classes, and what is refused."""

import numpy as np
import pytest

from drawn_images import draw_folder, picture, save
from experiments.data import DataError
from experiments.data.sources import open_source

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


def test_the_classes_are_those_of_train_though_another_split_has_more(tmp_path):
    root = draw_folder(tmp_path / "own", {"train": {"cat": 2, "dog": 2}})
    draw_folder(root, {"a_night": {"cat": 1, "fox": 1, "owl": 1}})
    with pytest.raises(
        DataError, match=r"a_night has the class fox, owl, which .*train has not.*move"
    ):
        opened(tmp_path)


def test_without_train_the_split_with_the_most_classes_has_them_all(tmp_path):
    draw_folder(tmp_path / "own", {"art": {"cat": 2}, "photo": {"cat": 2, "dog": 1}})
    assert opened(tmp_path, "art").class_names == ("cat", "dog")


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


def test_a_split_called_all_is_refused(tmp_path):
    draw_folder(tmp_path / "own", {"train": {"cat": 1}, "all": {"cat": 1}})
    with pytest.raises(DataError, match=r"all names a split, and .* Rename it"):
        opened(tmp_path)


def test_a_link_to_nothing_is_named(tmp_path):
    root = draw_folder(tmp_path / "own", COUNTS)
    (root / "train/owl/lost.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"owl.lost.jpg is a link to .*gone.jpg, which"):
        opened(tmp_path)


def test_files_that_are_passed_over_are_counted_once_when_preparing(tmp_path, capsys):
    root = draw_folder(tmp_path / "own", COUNTS)
    save(picture(0), root / "train/cat/b.gif")
    save(picture(0), root / "train/dog/deeper/c.png")
    (root / "train/dog/.hidden.gif").write_text("not shown")
    opened(tmp_path)
    note = capsys.readouterr().err
    assert "2 files in" in note
    assert "train/cat/b.gif first" in note
    opened(tmp_path)
    assert "passed over" not in capsys.readouterr().err


def test_grey_of_16_bits_is_scaled_and_not_clipped(tmp_path):
    root = draw_folder(tmp_path / "own", {"train": {"cat": 1}})
    deep = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    save(deep, root / "train/dog/deep.png")
    source = opened(tmp_path)
    image = source[int(np.flatnonzero(source.labels == 1)[0])]["image"]
    assert (image.shape, image.dtype) == ((1, 4, 3), np.uint8)
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


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
