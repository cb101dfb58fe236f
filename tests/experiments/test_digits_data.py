"""The digits as a data set, and how one training begins where another ended."""

import re

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from experiments import plan, records, train
from experiments.configs import digits as digits_config
from experiments.data import digits
from experiments.data.digits import KEPT, SIZES
from experiments.data.sources import open_source
from experiments.models.weights import WeightsError
from mocked_runs import QUIET, full


def small_config(part, **changes):
    """Few steps, few tests."""
    config = digits_config.get_config(part)
    config.evaluation.tests = ConfigDict(
        {n: f"digits:{n}" for n in ("clean", "inverted")}
    )
    config.evaluation.limit = 100
    config.recipe.steps = 2
    config.update_from_flattened_dict({full(k): v for k, v in changes.items()})
    return config


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a pre-training."""
    folder = tmp_path_factory.mktemp("runs") / "pretrain-3"
    config = small_config("pretrain", seed=3, steps=75)
    assert train.run(config, folder, QUIET)["summary"]["id"] > 0.5
    return folder


@pytest.mark.parametrize(
    ("split", "images"),
    [
        ("broad", SIZES["pretrain"] * len(KEPT) * digits.COPIES),
        ("broad_val", SIZES["train"] * len(KEPT)),
        ("train", SIZES["train"]),
        ("val", SIZES["val"]),
        *((domain, SIZES["test"]) for domain in digits.DOMAINS),
    ],
)
def test_every_split_holds_its_drawings_as_grey_rgb(split, images):
    source, drawn = open_source(f"digits:{split}"), digits.splits()[split]
    assert (len(source), source.num_classes) == (images, 10)
    assert drawn.images.dtype == np.float32
    assert 0 <= drawn.images.min() < drawn.images.max() <= 1
    expected = sorted(
        (np.round(255 * image).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(drawn.images, drawn.labels, strict=True)
    )
    decoded = [source[i] for i in range(len(source))]
    assert all(e["image"].shape == (16, 16, 3) for e in decoded)
    for channel in range(3):
        read = [(e["image"][..., channel].tobytes(), e["label"]) for e in decoded]
        assert sorted(read) == expected


def test_no_image_is_in_two_roles_and_every_digit_in_each_alike():
    for split in digits.load_splits().values():
        shares = np.bincount(split.labels) / len(split.labels)
        np.testing.assert_allclose(shares, 0.1, atol=0.011)
    by_split = {name: set(split.source) for name, split in digits.splits().items()}
    roles = [by_split[name] for name in ("broad", "train", "val", "clean")]
    assert len(set.union(*roles)) == sum(map(len, roles)) == 1797
    assert by_split["broad_val"] == by_split["train"]
    assert all(by_split[domain] == by_split["clean"] for domain in digits.DOMAINS)


def test_images_are_drawn_as_they_always_were():
    """Published figures rest on it."""
    splits = digits.splits()
    means = [float(splits[domain].images.mean()) for domain in digits.DOMAINS]
    appearances = [0.306, 0.694, 0.481, 0.459, 0.482, 0.337, 0.285, 0.301, 0.121]
    corruptions = [0.352, 0.367, 0.345, 0.286, 0.288, 0.452, 0.403, 0.308, 0.306]
    assert means == pytest.approx(appearances + corruptions, abs=6e-4)


def test_fine_tuning_begins_with_what_another_run_selected(pretrained, tmp_path):
    before = small_config("pretrain", seed=3, steps=75)
    selected, _ = records.load_selected(pretrained, leaves_of(before))
    config = small_config("", **{"io.weights": str(pretrained), "method": "ftp"})
    record = train.run(config, tmp_path / "ftp", QUIET)
    assert record["start"] == "loaded head"
    for path in ("head/kernel", "backbone/conv1/kernel"):
        leaf, weights = record["leaves"][path], flatten_dict(selected, sep="/")[path]
        assert leaf["radius"] is not None
        assert leaf["norm"] == pytest.approx(np.abs(weights).sum(0).max(), rel=1e-5)
        assert 0 < leaf["drift"] < leaf["norm"] / 10


def leaves_of(config):
    """Params and statistics of the model that a configuration starts with."""
    found = train.set_up(config).start
    return found.params, found.statistics


def test_a_new_head_is_zero_although_the_other_run_had_one(pretrained):
    changes = {"io.weights": str(pretrained), "start": "new head"}
    params, _ = leaves_of(small_config("", **changes))
    assert not np.any(params["head"]["kernel"])
    changes["start"] = "loaded head"
    loaded, _ = leaves_of(small_config("", **changes))
    assert np.any(loaded["head"]["kernel"])
    np.testing.assert_array_equal(
        params["backbone"]["conv1"]["kernel"], loaded["backbone"]["conv1"]["kernel"]
    )


def test_random_weights_depend_on_the_seed():
    a, b = (leaves_of(small_config("pretrain", seed=seed))[0] for seed in (0, 1))
    assert np.any(a["backbone"]["conv1"]["kernel"] != b["backbone"]["conv1"]["kernel"])


def test_weights_that_cannot_be_the_start_are_refused(pretrained, tmp_path):
    def set_up(weights, side=16):
        config = small_config("", **{"io.weights": str(weights)})
        config.model.options = ConfigDict({} if side == 16 else {"image_size": side})
        config.data.image_size = (side, side)
        return train.set_up(config)

    (tmp_path / "unfinished").mkdir()
    with pytest.raises(records.RecordError, match="is not the folder of a finished ru"):
        set_up(tmp_path / "unfinished")
    with pytest.raises(
        records.RecordError,
        match=r"run of another model, small: params/backbone/hidden/kernel is "
        r"\(256, 128\) there, \(1024, 128\) here",
    ):
        set_up(pretrained, side=32)
    backbone = flatten_dict(
        {"backbone": set_up(pretrained).start.params["backbone"]}, sep="/"
    )
    np.savez(tmp_path / "trunk.npz", **backbone)
    with pytest.raises(WeightsError, match=r"no head for the 10 classes of digits:tra"):
        set_up(tmp_path / "trunk.npz")


def test_every_seed_of_a_sweep_starts_from_its_own_weights(tmp_path):
    config = digits_config.get_config("study")
    runs = plan.planned("tune", plan.settings(config), config.tune_seeds)
    for planned in runs:
        run = plan.configured(config, planned, tmp_path)
        seed = re.fullmatch(r"runs/digits-pretrain-(\d)", run.io.weights)
        assert seed is not None
        assert int(seed[1]) == planned.seed
    assert len({planned.seed for planned in runs}) > 1
