"""PACS: the splits, and the layouts that are refused."""

import os
import shutil

import numpy as np
import pytest

from drawn_images import draw_pacs, picture
from experiments.data import DataError
from experiments.data.examples import LABEL
from experiments.data.folders import subfolders
from experiments.data.pacs import CLASSES, DOMAINS, PARTS, Pacs
from experiments.data.sources import open_source


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`(data_dir, source_dir)` of a prepared PACS with 7 images a class."""
    root = draw_pacs(tmp_path_factory.mktemp("pacs_images"))
    data = tmp_path_factory.mktemp("prepared")
    open_source("pacs:photo", data, root)
    return data, root


def test_a_domain_is_the_sum_of_its_disjoint_parts(folders):
    _, root = folders
    listing = Pacs(data_dir=root).listing(root)
    for domain in DOMAINS:
        parts = [[p.path for p in listing[f"{domain}_{part}"]] for part in PARTS]
        whole = [path for part in parts for path in part]
        assert len(set(whole)) == len(whole)
        assert set(whole) == set((root / domain).glob("*/*.jpg"))


def test_each_class_is_split_in_the_same_shares(folders):
    data, _ = folders
    for part, count in zip(PARTS, (5, 1, 1), strict=True):
        labels = open_source(f"pacs:sketch_{part}", data).labels
        np.testing.assert_array_equal(np.bincount(labels), [count] * len(CLASSES))


def test_the_split_depends_on_names_alone(folders, tmp_path):
    _, root = folders
    elsewhere = tmp_path / "copy"
    shutil.copytree(root, elsewhere)
    (elsewhere / "sketch/dog/image_0.jpg").unlink()
    here = Pacs(data_dir=root).listing(root)
    there = Pacs(data_dir=root).listing(elsewhere)
    for split in here.keys() - {f"sketch_{part}" for part in PARTS}:
        names = [p.path.relative_to(root) for p in here[split]]
        assert names == [p.path.relative_to(elsewhere) for p in there[split]]


def test_the_rule_of_the_split_stays_as_it_is(folders):
    """Published figures rest on it."""
    _, root = folders
    listing = Pacs(data_dir=root).listing(root)
    dogs = {p.path.name for p in listing["photo_val"] if p.target == "dog"}
    assert dogs == {"image_6.jpg"}


def test_examples_are_decoded_images_with_their_labels(folders):
    data, _ = folders
    source = open_source("pacs:photo", data)
    assert (source.target, source.num_classes, source.ignore_label) == (
        LABEL,
        7,
        None,
    )
    assert source.class_names == CLASSES
    assert len(source) == 7 * 7
    colours = {}  # a JPEG is close to what was drawn
    for c, label in enumerate(CLASSES):
        colours[label] = [picture(100 * c + i).astype(int) for i in range(7)]
    for i in range(len(source)):
        example = source[i]
        assert example["image"].dtype == np.uint8
        assert example["image"].shape == (40, 48, 3)
        drawn = colours[CLASSES[example["label"]]]
        assert min(np.abs(example["image"] - d).mean() for d in drawn) < 5


def test_the_parent_of_the_folder_will_do(folders, tmp_path):
    _, root = folders
    shutil.copytree(root, tmp_path / "all" / "pacs")
    source = open_source("pacs:photo_val", tmp_path / "prepared", tmp_path / "all")
    assert len(source) == 7


def test_preparing_leaves_the_folder_alone(folders):
    data, root = folders
    assert subfolders(root) == sorted(DOMAINS)
    assert sum(len(files) for _, _, files in os.walk(root)) == 4 * 7 * 7
    assert [p.name for p in data.iterdir()] == ["pacs"]  # and no staging folder


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("cartoon", "has no folder cartoon.*<domain>/<class>"),
        ("sketch/horse", "sketch has no folder horse"),
    ],
)
def test_a_missing_folder_is_named(tmp_path, lost, message):
    root = draw_pacs(tmp_path / "images", per_class=1)
    shutil.rmtree(root / lost)
    with pytest.raises(DataError, match=message):
        open_source("pacs:photo", tmp_path / "data", root)


def test_an_empty_class_is_named(tmp_path):
    root = draw_pacs(tmp_path / "images", per_class=1)
    (root / "photo/dog/image_0.jpg").unlink()
    with pytest.raises(DataError, match=r"photo.dog holds no images"):
        open_source("pacs:photo", tmp_path / "data", root)


def test_too_few_images_to_split_are_refused(tmp_path):
    root = draw_pacs(tmp_path / "images", per_class=2)
    with pytest.raises(DataError, match="too few images: none for photo_test"):
        open_source("pacs:photo", tmp_path / "data", root)


def test_a_corrupt_image_is_named_and_nothing_is_left_prepared(tmp_path):
    root = draw_pacs(tmp_path / "images", per_class=7)
    damaged = root / "sketch/person/image_1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(DataError, match=r"person.image_1.jpg is not an image"):
        open_source("pacs:photo", tmp_path / "data", root)
    assert list((tmp_path / "data").iterdir()) == []
