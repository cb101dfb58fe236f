"""What is refused of a data set, in one line that says what to do."""

import os
import resource
import shutil
import sys

import numpy as np
import pytest

from drawn_images import DRAWN, picture, save
from drawn_scenes import prepare
from experiments.data import DataError, corruptions
from experiments.data.corruptions import corrupt
from experiments.data.sources import open_source
from experiments.data.transforms import centre_crop
from experiments.tasks import TARGETS

DAMAGE = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to("gone"),
    "lost": lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "text": lambda path: path.write_text("no image"),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "moved": lambda path: shutil.move(path.parent / "night", path),
    "few": lambda path: [p.unlink() for p in path.glob("*/[1-9].*")],
    "classes": lambda path: [save(picture(0), path / c / "0.png") for c in "wxyz"],
    "class 12": lambda path: save(np.full((40, 40), 12, np.uint8), path),
    "mask 12": lambda path: save(np.full((40, 48), 12, np.uint8), path),
    "too small": lambda path: save(np.zeros((20, 40), np.uint8), path),
    "colours": lambda path: save(picture(0, (40, 40)), path),
}


# What is done to which file of a drawn set, and the words that refuse it.
DAMAGED = {
    "image_folder:train": [
        ("lost", "", "There is no folder .*own"),
        ("folder", "train/ant", "ant holds no images"),
        ("text", "night/owl/0.png", "owl/0.png is not an image"),
        ("cut", "train/cat/1.jpg", "cat/1.jpg is not an image"),
        ("empty", "night/owl/0.png", "0.png is not an image"),
        ("moved", "my-night", "my-night names a split; .*above"),
        ("moved", "all", "all names a split, and .*Rename"),
        ("folder", "day", "is a split and must hold a folder"),
        ("classes", "night", "night has the class w, x, y, z, w"),
        ("link", "train/cat/x.jpg", "is a link to gone, which is"),
        ("pipe", "train/cat/x.jpg", "x.jpg is no file. Mend or"),
        ("folder", "train/cat/x.jpg", "x.jpg is no file. Mend"),
        ("folder", "train/\udcff", r"\\udcff has a name that is"),
        ("text", "train/cat/\udcff.png", r"\\udcff.png is not an"),
    ],
    "image_folder:vall": [("text", "x", r"Unknown split 'vall'.*night.*train")],
    "image_folder:train[:2": [("text", "x", r"train\[:2 cannot be read")],
    "image_folder:train[:0]": [("text", "x", "it holds no images")],
    "list:real_test": [
        ("lost", "", r"holds no lists; expected the layout \*.txt"),
        ("lost", "real/axe", "line 1 names .*which is no file"),
        ("cut", "real/axe/real_test 0.png", "0.png is not an image"),
    ],
    "list:all": [("lost", "real/axe", "line 1 names .*which is no file")],
    "list:sketch_test + real_test": [("lost", "real/axe", "line 1 names .*no file")],
    "list:real": [("lost", "real", r"Unknown split 'real'.*real_train.*sketch")],
    "pacs:photo": [
        ("lost", "cartoon", "has no folder cartoon.*<domain>/<class>"),
        ("lost", "sketch/horse", "sketch has no folder horse"),
        ("few", "photo", "too few images: none for photo_val, photo_test"),
    ],
    "camvid:val": [
        ("lost", "trainannot/frame_1.png", "n/frame_1.png has no count"),
        ("lost", "test/frame_2.png", "annot/frame_2.png has no counter"),
        ("lost", "valannot", "has no folder valannot"),
        ("class 12", "trainannot/frame_0.png", "class 12; the last is 10"),
        ("too small", "trainannot/frame_0.png", r"is of \(20, 40\) pix"),
        ("colours", "trainannot/frame_0.png", "0.png has the mode RGB"),
    ],
    "mask_folder:val": [
        ("lost", "classes.txt", "no file .*classes.txt; expected"),
        ("empty", "classes.txt", "classes ; expected two or more"),
        ("folder", "more", "has 2 folders beside img; expected one"),
        ("lost", "img", "has no folder img"),
        ("lost", "img/3.jpg", "labels/3.png has no counterpart"),
        ("mask 12", "labels/2.png", "class 12; the last is 2"),
    ],
}


@pytest.mark.parametrize(
    ("spec", "damage", "path", "words"),
    [(spec, *case) for spec, cases in DAMAGED.items() for case in cases],
)
def test_a_folder_that_cannot_be_read_as_a_whole_is_refused(
    tmp_path, spec, damage, path, words
):
    root = DRAWN[spec.partition(":")[0]](tmp_path / "own")
    DAMAGE[damage](root / path)
    refused(words, spec, tmp_path / "data", root)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("more.txt", "", "more.txt is an empty list. Fill or remove it"),
        ("more.txt", "\n \n", "more.txt is an empty list"),
        ("more.txt", "\na.png", "more.txt, line 2: expected a path below .*'a.png'"),
        ("more.txt", "a.png x", "more.txt, line 1: .* a label from 0 on, got 'a.png x"),
        ("more.txt", "a.png -1", "line 1: .* a label from 0 on, got 'a.png -1'"),
        ("more.txt", "a.png 1.5", "line 1: .* a label from 0 on, got 'a.png 1.5'"),
        ("more.txt", "/a.png 1", "line 1: expected a path below"),
        ("more.txt", "a 1\na 4", "more.txt, line 2: its label is 4, but .* of 3"),
        ("my list.txt", "a 1", "my list.txt names a split; use letters, digits, -"),
        (
            "sketch_test.txt",
            "sketch/cup/sketch_test 0.png 2\nsketch/a.png 0",
            "sketch_test.txt, line 2 names .*sketch/a.png, which is no file",
        ),
    ],
)
def test_a_list_that_cannot_be_followed_is_told_by_its_line(
    tmp_path, name, text, words
):
    root = DRAWN["list"](tmp_path / "own")
    (root / name).write_text(text)
    refused(words, "list:sketch_test", tmp_path / "data", root)


def refused(words, *arguments):
    with pytest.raises(DataError, match=words) as refusal:
        open_source(*arguments)[0]
    assert "\n" not in str(refusal.value)
    str(refusal.value).encode()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        *((spec, "name:split, such as pacs") for spec in ("pacs", "pacs:", ":a", "")),
        ("list:a.txt", r"list needs io.source_dir, a folder with the layout \*.txt"),
        ("camvid:train", "camvid needs io.source_dir, a folder with the layout {train"),
        ("pasc:photo", "no data set 'pasc'.*pacs, camvid, image_folder"),
        ("cifar10:test", "TensorFlow, once.*tfds build cifar10 --file"),
        ("cifar10/no_such_config:test", "TFDS cannot open 'cifar10/no_such_config'"),
        ("voc:train", "voc has the features .*objects"),
    ],
)
def test_what_is_not_there_is_answered_with_what_to_do(tmp_path, spec, words):
    refused(words, spec, tmp_path)


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        ("empty", "dataset_info.json", "TFDS cannot open 'scenes'"),
        ("cut", "dataset_info.json", "TFDS cannot open 'scenes'"),
        ("lost", "dataset_info.json", "TFDS cannot open 'scenes'"),
        ("empty", "features.json", "TFDS cannot open 'scenes'"),
        ("empty", "scenes-test.array_record-00000-of-00001", "test cannot be read"),
        ("cut", "scenes-test.array_record-00000-of-00001", "prepared is not an image"),
        ("lost", "scenes-test.array_record-00000-of-00001", "test cannot be read"),
    ],
)
def test_a_damaged_copy_of_a_prepared_set_is_told(tmp_path, damage, file, words):
    DAMAGE[damage](prepare(tmp_path) / "scenes/1.0.0" / file)
    refused(words, "scenes:test", tmp_path, None, TARGETS)


def test_a_data_folder_that_cannot_be_written_is_told_and_forgotten_when_it_can(
    tmp_path,
):
    root, data = DRAWN["image_folder"](tmp_path / "own"), tmp_path / "data"
    data.write_text("a file")
    refused("cannot be read from .*Not a directory", "image_folder:train", data, root)
    data.unlink()
    for path in ("no\0path", "long" * 100):
        refused("cannot be read from", "image_folder:train", path, root)
        refused("cannot be read from|no folder", "image_folder:train", data, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as on a full disk
    try:
        refused("cannot be read from .*too large", "image_folder:train", data, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(open_source("image_folder:train", data, root)) == 9


LARGE = picture(5, (64, 64))


def test_an_image_that_a_resize_makes_too_small_is_said_to_be():
    with pytest.raises(DataError, match=r"^data.resize = 20 .* choose 28 or more"):
        centre_crop({"image": LARGE}, size=(28, 28), resize=20)


def test_a_mask_is_no_label_and_a_library_that_is_not_there_is_asked_for(
    tmp_path, monkeypatch
):
    root = DRAWN["camvid"](tmp_path / "own")
    with pytest.raises(DataError, match="a mask for each image, not a label"):
        open_source("camvid:train", tmp_path / "data", root).labels  # noqa: B018
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    corruptions.library.cache_clear()
    with pytest.raises(ImportError, match="pip install imagecorruptions-imaug"):
        corrupt(LARGE, "fog", 1, 0)
