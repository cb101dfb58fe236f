"""Specs, prepared copies, and what is said where there are none."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from drawn_images import draw_camvid, draw_folder, picture, save
from experiments.data import DataError
from experiments.data.batches import Sizes, evaluation_batches, train_batches
from experiments.data.examples import Cache
from experiments.data.pacs import CLASSES
from experiments.data.sources import open_source

CAMVID = 3  # images a split


@pytest.fixture
def folders(tmp_path):
    """`(data_dir, source_dir)` of a prepared CamVid."""
    data, root = tmp_path / "data", draw_camvid(tmp_path / "images", CAMVID)
    open_source("camvid:train", data, root)
    return data, root


@pytest.mark.parametrize("spec", ["pacs", "pacs:", ":photo", ""])
def test_a_spec_names_a_builder_and_a_split(tmp_path, spec):
    with pytest.raises(DataError, match="builder:split, such as pacs:photo_train, got"):
        open_source(spec, tmp_path)


def test_what_is_prepared_needs_no_folder_any_more(folders):
    data, root = folders
    for image in root.glob("*/*"):
        image.unlink()
    assert len(open_source("camvid:test", data)) == CAMVID


def test_the_environment_says_where_prepared_data_is(folders, monkeypatch):
    data, _ = folders
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))
    assert len(open_source("camvid:test")) == CAMVID


def test_an_unprepared_set_asks_for_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"camvid is not prepared in .*Give source_dir"):
        open_source("camvid:train", tmp_path)
    with pytest.raises(DataError, match=r"source_dir = .*nowhere is not a folder"):
        open_source("camvid:train", tmp_path, tmp_path / "nowhere")


def test_an_unknown_split_is_answered_with_those_there_are(folders):
    data, _ = folders
    with pytest.raises(DataError, match=r"Unknown split 'vall'.*train"):
        open_source("camvid:vall", data)
    with pytest.raises(DataError, match=r"camvid:train\[:2 cannot be read"):
        open_source("camvid:train[:2", data)
    with pytest.raises(DataError, match="cannot be read"):
        open_source("camvid:train[:0]", data)


def test_a_copy_of_another_folder_is_not_taken_for_this_one(folders):
    data, root = folders
    save(picture(0, (40, 40)), root / "train/frame_0.png")
    with pytest.raises(DataError, match="was prepared from a folder that differs from"):
        open_source("camvid:train", data, root)


def test_an_unfinished_copy_is_not_used(folders):
    data, root = folders
    (place,) = (data / "camvid").iterdir()
    (place / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="is an unfinished copy"):
        open_source("camvid:train", data, root)


def test_a_copy_that_lost_a_file_is_told(folders):
    data, _ = folders
    (place,) = (data / "camvid").iterdir()
    (shard,) = place.glob("camvid-test.array_record*")
    shard.unlink()
    with pytest.raises(DataError, match="camvid:test cannot be read"):
        open_source("camvid:test", data)


def test_a_preparation_that_was_killed_leaves_nothing_that_is_used(tmp_path):
    """The process ends without a chance to tidy up, half way through the images."""
    root = draw_camvid(tmp_path / "images", CAMVID)
    data = tmp_path / "data"
    program = (
        "import os, sys\n"
        "from experiments.data import camvid, sources\n"
        "real, left = camvid.Camvid.example, [5]\n"
        "def example(self, picture):\n"
        "    left[0] -= 1\n"
        "    return real(self, picture) if left[0] else os._exit(9)\n"
        "camvid.Camvid.example = example\n"
        "sources.open_source('camvid:train', *sys.argv[1:])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(data), str(root)],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert ended.returncode == 9
    assert [p.name[:11] for p in data.iterdir()] == [".preparing-"]
    with pytest.raises(DataError, match="not prepared"):
        open_source("camvid:train", data)
    assert len(open_source("camvid:train", data, root)) == CAMVID


def test_a_source_can_be_sent_to_another_process(folders, tmp_path):
    data, _ = folders
    own = draw_folder(tmp_path / "own", {"train": {"cat": 2}})
    for source in (
        open_source("camvid:val", data),
        open_source("image_folder:train", data, own),
    ):
        cached = source.cached()
        example = cached[1]
        copy = pickle.loads(pickle.dumps(cached))
        np.testing.assert_array_equal(copy[1]["image"], example["image"])
        np.testing.assert_array_equal(source[1]["image"], example["image"])
        assert cached[1] is example


def test_a_cache_that_is_full_decodes_the_rest_anew(folders):
    data, _ = folders
    examples = open_source("camvid:val", data).examples
    two = 2 * 40 * 40 * (3 + 1)  # bytes of the decoded images and masks
    cache = Cache(examples, most_bytes=two)
    first = [cache[i] for i in range(CAMVID)]
    assert [cache[i] is first[i] for i in range(CAMVID)] == [True, True, False]
    np.testing.assert_array_equal(cache[2]["image"], first[2]["image"])
    copy = pickle.loads(pickle.dumps(cache))
    assert copy[2] is copy[2]


def test_a_set_of_tfds_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(DataError, match=r"TensorFlow, once.*tfds build cifar10 --file"):
        open_source("cifar10:test", tmp_path)


def test_an_unknown_set_is_told(tmp_path):
    with pytest.raises(
        DataError, match=r"no data set 'pasc'.*pacs, camvid, image_folder"
    ):
        open_source("pasc:photo", tmp_path)
    with pytest.raises(DataError, match="TFDS cannot open 'cifar10/no_such_config'"):
        open_source("cifar10/no_such_config:test", tmp_path)


def test_a_set_of_another_kind_is_told(tmp_path):
    with pytest.raises(DataError, match=r"voc has the features .*objects"):
        open_source("voc:train", tmp_path)


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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """`(data_dir, source_dir)` of the real data."""
    root = os.environ.get("FTP_OPTAX_DATA")
    if root is None:
        pytest.skip("FTP_OPTAX_DATA does not name the folder of pacs and camvid")
    return tmp_path_factory.mktemp("prepared"), root


def test_the_real_pacs_is_whole(real):
    counts = {"photo": 1670, "art_painting": 2048, "cartoon": 2344, "sketch": 3929}
    for domain, count in counts.items():
        assert len(open_source(f"pacs:{domain}", *real)) == count
    train, val = (open_source(f"pacs:photo_{part}", *real) for part in ("train", "val"))
    assert (len(train), len(val)) == (1167, 253)
    assert train.class_names == CLASSES
    assert np.bincount(train.labels).min() > 100


def test_the_real_camvid_is_whole(real):
    counts = {"train": 367, "val": 101, "test": 233}
    for split, count in counts.items():
        assert len(open_source(f"camvid:{split}", *real)) == count
