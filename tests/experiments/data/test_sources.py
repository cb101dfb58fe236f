"""What is read from folders, and from what TFDS prepared."""

import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from drawn_images import COUNTS, DRAWN, draw_folder, picture, save
from experiments.configs.base import check
from experiments.configs.values import SettingError
from experiments.data import pacs
from experiments.data.batches import Sizes, evaluation_batches, train_batches
from experiments.data.camvid import CLASSES, VOID
from experiments.data.examples import LABEL, MASK, Examples
from experiments.data.folders import PARTS
from experiments.data.sources import listed_anew, open_source
from experiments.methods import METHODS
from experiments.models import MODELS
from experiments.setup import set_up
from mocked_runs import IMAGES, small_config


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def images_of(source):
    return [source[i]["image"] for i in range(len(source))]


def assert_drawn(image, seed):
    """A JPEG is close to what was drawn."""
    assert (image.shape, image.dtype) == ((40, 48, 3), np.uint8)
    assert np.abs(image.astype(int) - picture(seed)).mean() < 5


def test_labels_are_those_of_the_folders_and_a_split_may_lack_classes(tmp_path, data):
    root = draw_folder(tmp_path / "own", COUNTS)
    train = open_source("image_folder:train", data, root)
    night = open_source("image_folder:night", data, root)
    assert (train.target, train.num_classes, train.ignore_label) == (LABEL, 3, None)
    assert train.class_names == night.class_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(np.bincount(train.labels), [4, 3, 2])
    np.testing.assert_array_equal(np.bincount(night.labels), [0, 2, 1])
    # The first pictures that are drawn are those of cats.
    seeds = {0: range(4), 1: range(4, 7), 2: range(7, 9)}
    for i in range(len(train)):
        distance = [
            np.abs(train[i]["image"].astype(int) - picture(seed)).mean()
            for seed in range(9)
        ]
        assert np.argmin(distance) in seeds[train[i]["label"]]
    assert len(open_source("image_folder:train[:4]+night", data, root)) == 4 + 3
    assert len(open_source("image_folder:all", data, root)) == 9 + 3


def test_without_train_the_split_with_the_most_classes_has_them_all(tmp_path, data):
    counts = {"art": {"cat": 2}, "photo": {"cat": 2, "dog": 1}}
    root = draw_folder(tmp_path / "own", counts)
    art = open_source("image_folder:art", data, root)
    assert art.class_names == ("cat", "dog")


def test_a_list_says_which_images_a_split_has_and_what_they_show(
    tmp_path, data, capsys
):
    root = DRAWN["list"](tmp_path / "own")
    shutil.rmtree(root / "real/bat")  # of lists that no one asks for
    source = open_source("list:sketch_test.txt", data, root)
    assert (source.target, source.class_names) == (LABEL, ("axe", "bat", "cup"))
    np.testing.assert_array_equal(np.bincount(source.labels), [3, 0, 1])
    for i in range(4):
        label = source[i]["label"]
        np.testing.assert_array_equal(source[i]["image"], picture(label))
    assert len(open_source("list:sketch_test[:50%]", data, root)) == 2
    assert "passed over" not in capsys.readouterr().err


def test_a_list_that_changes_is_another_content_and_one_not_asked_for_is_none(
    tmp_path, data
):
    root, specs = DRAWN["list"](tmp_path / "own"), ["list:sketch_test"]
    before = listed_anew(specs, root, data)
    (root / "real_test.txt").write_text("sketch/axe/sketch_test 0.png 0\r\n\n")
    assert listed_anew(specs, root, data) == before
    (root / "sketch_test.txt").write_text("sketch/axe/sketch_test 0.png 2\n")
    source = open_source(*specs, data, root)
    np.testing.assert_array_equal(source.labels, [2])
    assert source.class_names == ("0", "bat", "2"), "axes are of two classes now"
    assert listed_anew(specs, root, data) != before


def test_images_of_any_mode_become_upright_rgb(tmp_path, data):
    folder = tmp_path / "own/train/cat"
    grey, deep = np.full((8, 9), 77, np.uint8), np.array([[0, 257, 65535]], np.uint16)
    save(grey, folder / "grey.png")
    save(np.dstack([grey] * 4), folder / "transparent.PNG")
    save(deep, folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    save(np.rot90(picture(0)), folder / "turned.jpg", exif=exif, quality=95)
    save(grey, folder / os.fsdecode(b"\xff.png"))
    found = images_of(open_source("image_folder:train", data, tmp_path / "own"))
    shapes = {image.shape: image for image in found}
    assert sorted(shapes) == [(1, 3, 3), (8, 9, 3), (40, 48, 3)]
    np.testing.assert_array_equal(shapes[1, 3, 3], [[[0] * 3, [1] * 3, [255] * 3]])
    np.testing.assert_array_equal(shapes[8, 9, 3], np.dstack([grey] * 3))
    assert_drawn(shapes[40, 48, 3], 0)


def test_files_that_are_passed_over_are_counted_once(tmp_path, data, capsys):
    root = draw_folder(tmp_path / "own", COUNTS)
    for name in ("train/cat/b.gif", "train/dog/deeper/c.png", "train/dog/.hidden.gif"):
        save(picture(0), root / name)
    open_source("image_folder:train", data, root)
    note = capsys.readouterr().err
    assert "2 files in" in note
    assert "train/cat/b.gif first" in note
    open_source("image_folder:train", data, root)
    assert "passed over" not in capsys.readouterr().err


def test_an_image_that_is_replaced_by_one_of_the_same_size_is_read_anew(tmp_path, data):
    file, specs = tmp_path / "own/train/cat/0.bmp", ["image_folder:train"]
    save(picture(0), file)
    before, size = listed_anew(specs, tmp_path / "own", data), file.stat().st_size
    save(picture(1), file)
    assert file.stat().st_size == size
    (image,) = images_of(open_source(*specs, data, tmp_path / "own"))
    np.testing.assert_array_equal(image, picture(1))
    assert listed_anew(specs, tmp_path / "own", data) != before
    assert listed_anew(["digits:val", "cifar10:test"], tmp_path / "own", data) is None


def test_a_folder_is_checked_once_and_told_from_others_by_what_it_holds(tmp_path, data):
    root, specs = draw_folder(tmp_path / "own", COUNTS), ["image_folder:train"]
    content = listed_anew(specs, root, data)
    shutil.copytree(root, tmp_path / "copy")
    damaged, other = root / "train/cat/0.png", tmp_path / "copy/train/cat/0.png"
    os.utime(other, (0, 0))
    assert listed_anew(specs, tmp_path / "copy", data) == content
    status = damaged.stat()
    damaged.write_bytes(bytes(status.st_size))
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert listed_anew(specs, root, data) == content  # not read again
    for note in (data / "checked").iterdir():
        note.write_text("")  # as a full disk leaves it
    assert listed_anew(specs, tmp_path / "copy", data) == content


@pytest.mark.parametrize(("share", "counts"), [(0.5, [10, 5, 1]), (0.1, [2, 1, 1])])
def test_a_share_is_of_every_class_alike_and_a_smaller_one_part_of_it(
    tmp_path, data, share, counts
):
    root = draw_folder(tmp_path / "own", {"train": {"cat": 20, "dog": 10, "owl": 2}})
    whole = open_source("image_folder:train", data, root)
    part = whole.share(share, seed=0)
    np.testing.assert_array_equal(np.bincount(part.labels), counts)
    assert seen_in(part) == seen_in(whole.share(share, seed=0))
    assert seen_in(part) > seen_in(whole.share(share / 2, seed=0))
    assert seen_in(part) != seen_in(whole.share(share, seed=1))
    assert seen_in(part) < seen_in(whole.share(1.0, seed=0)) == seen_in(whole)
    np.testing.assert_array_equal(
        part.labels, [part[i]["label"] for i in range(len(part))]
    )


def seen_in(source):
    return {image.tobytes() for image in images_of(source)}


def test_a_share_of_masks_is_of_images(tmp_path, data):
    scenes = open_source("camvid:all", data, DRAWN["camvid"](tmp_path / "own"))
    assert (len(scenes), len(scenes.share(0.5, seed=0))) == (9, 4)


def test_a_run_trains_and_selects_on_its_share_and_is_tested_on_everything(mocked_data):
    setup = set_up(small_config(**{"data.share": 0.5, "data.share_seed": 1}))
    whole = open_source("cifar10:train")
    np.testing.assert_array_equal(setup.train.labels, whole.share(0.5, seed=1).labels)
    evaluator = setup.evaluator
    assert len(evaluator.validation) < IMAGES
    tests = evaluator.domains.values()
    assert {len(domain.source) for domain in tests} == {IMAGES}
    with pytest.raises(SettingError, match=r"data.share: .* in \[0, 1\], not 0, got 0"):
        check(small_config(**{"data.share": 0.0}), METHODS, MODELS)


def test_a_domain_of_pacs_is_the_sum_of_its_disjoint_parts(tmp_path, data):
    root = DRAWN["pacs"](tmp_path / "all/pacs")
    splits = pacs.listing(root).splits
    for domain in pacs.DOMAINS:
        names = [r["name"] for part in PARTS for r in splits[f"{domain}_{part}"]]
        assert len(set(names)) == len(names) == 7 * 7
        for part, count in zip(PARTS, (5, 1, 1), strict=True):
            # The parent of the folder will do.
            source = open_source(f"pacs:{domain}_{part}", data, tmp_path / "all")
            np.testing.assert_array_equal(np.bincount(source.labels), [count] * 7)
    assert len(open_source("pacs:photo", data, root)) == 7 * 7
    assert source.class_names == pacs.CLASSES


def test_the_rule_of_the_split_is_of_names_alone_and_stays_as_it_is(tmp_path):
    """Published figures rest on it."""
    root = DRAWN["pacs"](tmp_path / "pacs")
    before = pacs.listing(root).splits
    dogs = {r["name"] for r in before["photo_val"] if r["label"] == 0}
    assert dogs == {b"photo/dog/6.png"}
    (root / "sketch/dog/0.png").unlink()
    after = pacs.listing(root).splits
    for split in before.keys() - {f"sketch_{part}" for part in PARTS}:
        assert before[split] == after[split]


def test_the_order_within_a_split_stays_as_it_is(tmp_path, data):
    """So that figures do: batches and slices are taken by position."""
    root = draw_folder(tmp_path / "own", {"train": {"cat": 6}})
    source = open_source("image_folder:train", data, root)
    names = [record["image"].stem for record in source.examples.records]
    assert "".join(names) == "340251"


def test_masks_belong_to_their_images(tmp_path, data):
    source = open_source("camvid:val", data, DRAWN["camvid"](tmp_path / "own"))
    assert (source.target, source.ignore_label) == (MASK, VOID)
    assert (source.class_names, source.num_classes, len(source)) == (CLASSES, 11, 3)
    for i in range(3):
        image, mask = source[i]["image"], source[i]["segmentation"]
        assert (image.shape, mask.shape) == ((40, 40, 3), (40, 40))
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(image[..., 0] == 255, mask == 3)
        np.testing.assert_array_equal(image[..., 2] == 255, mask == VOID)
    assert {int((source[i]["segmentation"] == VOID).sum()) for i in range(3)} == {
        *(40, 80, 120)
    }


def test_masks_of_your_own_are_split_by_the_rule_and_named_by_their_list(
    tmp_path, data
):
    root = DRAWN["mask_folder"](tmp_path / "own")
    sources = [open_source(f"mask_folder:{part}", data, root) for part in PARTS]
    assert [len(source) for source in sources] == [5, 1, 1]
    assert len(set.union(*map(seen_in, sources))) == 7
    source = sources[0]
    assert source.class_names == ("background", "upper body", "shoes")
    assert (source.target, source.ignore_label) == (MASK, 255)
    np.testing.assert_array_equal(
        source[0]["segmentation"][7], np.repeat([0, 1, 2, 255], 12)
    )


def test_what_was_decoded_is_kept_while_there_is_memory_and_not_sent_on(tmp_path, data):
    source = open_source("camvid:val", data, DRAWN["camvid"](tmp_path / "own"))
    most = 2 * 40 * 40 * (3 + 1)  # two, image and mask
    examples = Examples(source.examples.records, MASK, "segmentation", most)
    first = [examples[i] for i in range(3)]
    assert [examples[i] is first[i] for i in range(3)] == [True, True, False]
    sent = pickle.dumps(examples)
    assert len(sent) < 40 * 40 * 3  # not even one image
    copy = pickle.loads(sent)
    for i in range(3):
        np.testing.assert_array_equal(examples[i]["image"], first[i]["image"])
        np.testing.assert_array_equal(copy[i]["image"], first[i]["image"])
    assert source[0] is not source[0]


@pytest.mark.parametrize(
    ("name", "shape"), [("cifar10", (32, 32, 3)), ("mnist", (28, 28, 3))]
)
def test_sets_of_tfds_work_and_grey_becomes_rgb(name, shape):
    with tfds.testing.mock_data(num_examples=6):
        source = open_source(f"{name}:train")
        assert (source.num_classes, len(source)) == (10, 6)
        assert source[0]["image"].shape == shape
        batches = train_batches(source, batch_size=4, image_size=24, seed=0)
        assert next(iter(batches))["image"].shape == (4, 24, 24, 3)
        (batch,) = evaluation_batches(source, Sizes(8, 24, limit=5))
        assert batch["mask"].sum() == 5


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("pacs:art_painting", 2048),
        ("pacs:cartoon", 2344),
        ("pacs:photo_train", 1167),
        ("pacs:photo_val", 253),
        ("pacs:sketch", 3929),
        ("camvid:train+val+test", 367 + 101 + 233),
        ("mask_folder:train", 703),
        ("mask_folder:val+test", 150 + 151),
    ],
)
def test_the_real_pacs_camvid_and_clothing_are_whole(tmp_path_factory, name, counts):
    if (root := os.environ.get("FTP_OPTAX_DATA")) is None:
        pytest.skip("FTP_OPTAX_DATA does not name the folder of pacs, camvid and ccp")
    root = os.path.join(root, "ccp") if name.startswith("mask_folder") else root
    assert len(open_source(name, tmp_path_factory.getbasetemp(), root)) == counts
