"""PASCAL-Context: one folder, three targets, pixel by pixel."""

import shutil

import numpy as np
import pytest

import drawn_pascal
from drawn_images import picture, save
from drawn_pascal import SIDES, draw_pascal, save_matlab, struct
from experiments.data import DataError
from experiments.data.batches import Sizes, evaluation_batches, train_batches
from experiments.data.examples import MASK, NORMALS
from experiments.data.sources import listed_anew, open_source
from experiments.tasks import normals, segmentation, task_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_pascal(tmp_path_factory.mktemp("drawn") / "PASCAL_MT")


def opened(target, split, root, data_dir):
    """The source, and the number of each of its images."""
    source = open_source(f"pascal_context/{target}:{split}", data_dir, root)
    return source, [int(r["image"].stem) for r in source.examples.records]


def test_masks_are_those_of_voc_where_it_has_some(root, tmp_path):
    source, numbers = opened("semseg", "train+val", root, tmp_path)
    assert (task_of(source.target), source.ignore_label) == (segmentation.TASK, 255)
    assert (source.num_classes, source.class_names[15]) == (21, "person")
    assert sorted(numbers) == list(range(9))
    for i, number in enumerate(numbers):
        np.testing.assert_array_equal(
            source[i]["segmentation"], drawn_pascal.semseg(number)
        )
        image = source[i]["image"].astype(int)
        assert np.abs(image - picture(number, SIDES)).mean() < 5


def test_parts_are_those_of_every_person_and_images_without_are_left_out(
    root, tmp_path
):
    for _ in range(2):  # when the folder is checked, and when it was
        source, numbers = opened("parts", "train", root, tmp_path)
        assert sorted(numbers) == [0, 1, 3, 4]
        assert (source.target, source.num_classes) == (MASK, 7)
        assert task_of(source.target) is segmentation.TASK
        for i, number in enumerate(numbers):
            mask = source[i]["segmentation"]
            np.testing.assert_array_equal(mask, drawn_pascal.parts(number))
    assert len(opened("parts", "val[:50%]", root, tmp_path)[1]) == 1


def test_normals_count_where_the_image_shows_what_nyu_knows(root, tmp_path):
    source, numbers = opened("normals", "val", root, tmp_path)
    assert (source.target, source.num_classes) == (NORMALS, 0)
    assert task_of(source.target) is normals.TASK
    for i, number in enumerate(numbers):
        field, expected = source[i]["normals"], drawn_pascal.normals(number)
        np.testing.assert_allclose(field, expected, atol=0.01)
        np.testing.assert_array_equal(*map(normals.is_known, (field, expected)))


@pytest.mark.parametrize("target", ["semseg", "parts", "normals"])
def test_every_target_becomes_batches_in_this_process_and_in_others(
    root, tmp_path, target
):
    source, numbers = opened(target, "train", root, tmp_path)
    settings = {"batch_size": 4, "image_size": (24, 32), "seed": 0}
    here, there = (
        next(iter(train_batches(source, **settings, workers=workers)))
        for workers in (0, 1)
    )
    name = source.target.name
    np.testing.assert_array_equal(here[name], there[name])
    assert here[name].shape[:3] == (4, 24, 32)
    (batch,) = evaluation_batches(source, Sizes(8, SIDES))
    assert batch["mask"].sum() == len(numbers)


def test_a_change_of_any_target_is_told_from_the_rest(root, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(root, own)
    specs = [f"pascal_context/{target}:val" for target in ("parts", "normals")]
    before = [listed_anew([spec], own, tmp_path) for spec in specs]
    save_matlab(own / "human_parts/6.mat", anno=drawn_pascal.annotation(7))
    after = [listed_anew([spec], own, tmp_path) for spec in specs]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]
    assert listed_anew(specs, own, tmp_path) == "-".join(reversed(after))


SMALL = np.zeros((9, 9), np.uint8)
TAIL = struct([("tail", SMALL)], "part_name", "mask")
HEAD = struct([("head", SMALL)], "part_name", "mask")


def person(parts, mask=SMALL):
    objects = struct([("person", 15, mask, parts)], "class", "class_ind", "mask", "x")
    return {"anno": struct([("6", objects)], "imname", "objects")}


LABELS, OTHER_SIZE = {"LabelMap": SMALL}, person(HEAD, np.zeros(SIDES))


@pytest.mark.parametrize(
    ("target", "file", "content", "words"),
    [
        ("semseg", "ImageSets/Context/val.txt", None, "no list .*val.txt; expected th"),
        ("parts", "human_parts/6.mat", None, "val.txt, line 1 names .*6.mat, which is"),
        ("normals", "normals_distill/7.png", None, "val.txt, line 2 names .*7.png, wh"),
        ("normals", "pascal-context/trainval/8.mat", None, "val.txt, line 3 names .*8"),
        ("semseg", "JPEGImages/8.jpg", None, "line 3 names .*8.jpg, which is no file"),
        ("semseg", "semseg/VOC12/7.png", SMALL, r"7.png is of \(9, 9\) pixels, but it"),
        ("semseg", "semseg/VOC12/7.png", SMALL + 21, "class 21; the last is 20"),
        ("parts", "human_parts/6.mat", person(TAIL), "'tail' of a person; expected on"),
        ("parts", "human_parts/6.mat", person(HEAD), r"6.mat is of \(9, 9\) pixels, b"),
        ("parts", "human_parts/6.mat", OTHER_SIZE, r"'head' of \(9, 9\) .* \(36, 48\)"),
        ("parts", "human_parts/6.mat", {"a": 1}, "6.mat is not an annotation .*anno"),
        ("parts", "human_parts/6.mat", SMALL, "6.mat is not an annotation that can be"),
        (
            "normals",
            "pascal-context/trainval/6.mat",
            LABELS,
            r"6.mat .*\(9, 9\).*6.png",
        ),
    ],
)
def test_what_is_missing_damaged_or_of_another_size_is_told(
    root, tmp_path, target, file, content, words
):
    shutil.copytree(root, tmp_path / "own")
    path = tmp_path / "own" / file
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        save_matlab(path, **content)
    else:
        size = SIDES if content.any() else (9, 9)
        save(np.resize(content, size), path, format="png")
    with pytest.raises(DataError, match=words) as refusal:
        opened(target, "val", tmp_path / "own", tmp_path)
    assert "\n" not in str(refusal.value)
