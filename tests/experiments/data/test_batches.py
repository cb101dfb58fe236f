"""Batches: order, crops, resuming, workers, padding, limits."""

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from drawn_images import draw_camvid, draw_folder
from experiments.data import DataError
from experiments.data.batches import (
    Sizes,
    evaluation_batches,
    subsample,
    train_batches,
)
from experiments.data.corruptions import corrupt
from experiments.data.examples import LABEL, Examples
from experiments.data.sources import open_source

COUNTS = {"train": {"cat": 20, "dog": 10, "owl": 5}}
SETTINGS = {"batch_size": 7, "image_size": 16, "seed": 3}  # five batches an epoch


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = draw_folder(tmp_path_factory.mktemp("own"), COUNTS)
    return open_source("image_folder:train", tmp_path_factory.mktemp("data"), root)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = draw_camvid(tmp_path_factory.mktemp("camvid"), images=5)
    return open_source("camvid:train", tmp_path_factory.mktemp("data"), root)


def taken(dataset, count):
    return list(itertools.islice(iter(dataset), count))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_training_batches_have_the_shapes_and_dtypes_of_the_contract(source, scenes):
    (batch,) = taken(train_batches(source, **SETTINGS), 1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((7, 16, 16, 3), np.uint8),
        "label": ((7,), np.int32),
    }
    settings = {**SETTINGS, "image_size": (20, 28)}
    (batch,) = taken(train_batches(scenes, **settings), 1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((7, 20, 28, 3), np.uint8),
        "segmentation": ((7, 20, 28), np.uint8),
    }


def test_every_epoch_holds_every_image_once_in_another_order(source):
    batches = taken(train_batches(source, **SETTINGS), 10)
    epochs = np.concatenate([batch["label"] for batch in batches]).reshape(2, 35)
    for labels in epochs:
        np.testing.assert_array_equal(np.bincount(labels), [20, 10, 5])
    assert (epochs[0] != epochs[1]).any()


def test_the_seed_decides_and_the_cache_does_not(source):
    first = taken(train_batches(source, **SETTINGS), 8)
    kept = Examples(source.examples.records, LABEL, "label", 10**9)
    cached = dataclasses.replace(source, examples=kept)
    assert_same(first, taken(train_batches(cached, **SETTINGS), 8))
    (other,) = taken(train_batches(source, **{**SETTINGS, "seed": 4}), 1)
    assert (first[0]["label"] != other["label"]).any()


def test_crops_differ_from_epoch_to_epoch_and_masks_move_with_them(scenes):
    settings = {**SETTINGS, "batch_size": 5, "scale": (0.3, 0.6)}
    one, two = taken(train_batches(scenes, **settings), 2)
    images = [{image.tobytes() for image in batch["image"]} for batch in (one, two)]
    assert not images[0] & images[1]
    for batch in (one, two):
        assert (classes_of(batch["image"]) == batch["segmentation"]).mean() > 0.95


def classes_of(images):
    """Those that the colours of a drawn CamVid show."""
    return np.array([3, 0, 11])[images.argmax(-1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_saved_iterator_goes_on_where_it_was(source, tmp_path, workers):
    """And the batches are the same with 0 and with 2 workers."""
    expected = taken(train_batches(source, **SETTINGS), 12)
    dataset = train_batches(source, **SETTINGS, workers=workers)
    iterator = iter(dataset)
    assert_same([next(iterator) for _ in range(6)], expected[:6])
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        place = grain.checkpoint.CheckpointSave(iterator)
        manager.save(6, args=ocp.args.Composite(data=place))
        manager.wait_until_finished()
        assert_same([next(iterator) for _ in range(2)], expected[6:8])

        resumed = iter(dataset)
        place = grain.checkpoint.CheckpointRestore(resumed)
        manager.restore(6, args=ocp.args.Composite(data=place))
    assert_same([next(resumed) for _ in range(6)], expected[6:])
    for each in (iterator, resumed):
        each.close()


TRAINING = """
import multiprocessing, sys, time
from experiments.data.batches import train_batches
from experiments.data.sources import open_source

source = open_source("image_folder:train", *sys.argv[1:])
batches = train_batches(source, batch_size=2, image_size=16, seed=0, workers=2)
iterator = iter(batches)
next(iterator)
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""


def runs(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_worker_outlives_a_training_that_is_killed(tmp_path):
    root = draw_folder(tmp_path / "own", COUNTS)
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(tmp_path), str(root)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = training.stdout.readline().split()
    assert len(workers) == 2
    assert all(map(runs, workers))
    os.kill(training.pid, signal.SIGKILL)
    training.wait()
    training.stdout.close()
    until = time.monotonic() + 10
    while any(map(runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    survivors = [int(pid) for pid in workers if runs(pid)]
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert not survivors


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_during_a_training_is_named(tmp_path, workers):
    root = draw_folder(tmp_path / "own", {"train": {"cat": 40}})
    images = open_source("image_folder:train", tmp_path, root)
    iterator = iter(train_batches(images, **SETTINGS, workers=workers))
    next(iterator)
    shutil.rmtree(root)
    with pytest.raises(DataError, match=r"cat/.*g is not an image .*No such file"):
        taken(iterator, 40)
    iterator.close()


def test_evaluation_shows_every_image_once_in_order_and_marks_the_padding(source):
    batches = list(evaluation_batches(source, Sizes(8, 24)))
    assert len(batches) == 5
    for batch in batches:
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            "image": ((8, 24, 24, 3), np.uint8),
            "label": ((8,), np.int32),
            "mask": ((8,), np.bool_),
        }
        assert not batch["image"][~batch["mask"]].any()
    masks = np.concatenate([b["mask"] for b in batches])
    labels = np.concatenate([b["label"] for b in batches])
    np.testing.assert_array_equal(masks, np.arange(40) < 35)
    np.testing.assert_array_equal(labels[masks], source.labels)


def test_evaluation_of_masks_crops_both_alike_and_keeps_to_its_limit(scenes):
    (batch,) = evaluation_batches(scenes, Sizes(8, (20, 40)))
    images, masks = batch["image"][batch["mask"]], batch["segmentation"][batch["mask"]]
    assert masks.shape == (5, 20, 40)
    np.testing.assert_array_equal(classes_of(images), masks)
    batches = evaluation_batches(scenes, Sizes(2, 40, limit=3))
    assert [b["mask"].sum() for b in batches] == [2, 1]
    np.testing.assert_array_equal(subsample(scenes, 3), subsample(scenes, 3))


def test_a_limit_is_stratified_fixed_and_nested(source):
    half = subsample(source, 14)
    np.testing.assert_array_equal(np.bincount(source.labels[half]), [8, 4, 2])
    np.testing.assert_array_equal(half, subsample(source, 14))
    assert set(subsample(source, 7)) < set(half)
    assert len(subsample(source, 99)) == len(subsample(source, None)) == 35


def test_a_corruption_changes_an_image_the_same_way_in_any_batch(source):
    pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug")
    noise = ("gaussian_noise", 3)
    (whole,) = evaluation_batches(source, Sizes(35, 32), noise)
    parts = list(evaluation_batches(source, Sizes(9, 32), noise))
    images = np.concatenate([b["image"][b["mask"]] for b in parts])
    np.testing.assert_array_equal(whole["image"], images)

    (part,) = evaluation_batches(source, Sizes(9, 32, limit=9), noise)
    np.testing.assert_array_equal(part["image"], images[subsample(source, 9)])

    (clean,) = evaluation_batches(source, Sizes(35, 32))
    assert (clean["image"] != whole["image"]).mean() > 0.5

    # As strong as it was asked for, and each image with its own noise.
    black = [{"image": np.zeros((40, 40, 3), np.uint8), "label": 0}] * 35
    dark = dataclasses.replace(source, examples=Examples(black, LABEL, "label"))
    (noisy,) = evaluation_batches(dark, Sizes(35, 32), noise)
    assert len({image.tobytes() for image in noisy["image"]}) == 35
    one = corrupt(np.zeros((32, 32, 3), np.uint8), *noise, seed=0)
    assert noisy["image"].mean() == pytest.approx(one.mean(), rel=0.1)
