"""The digits as a data set, and how one training begins where another ended."""

import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import records, sweep, train
from experiments.configs import digits as digits_config
from experiments.data import digits
from experiments.data.digits import KEPT, SIZES
from experiments.data.sources import open_source
from experiments.models.weights import WeightsError
from mocked_runs import QUIET, full


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the digits are prepared."""
    folder = tmp_path_factory.mktemp("digits")
    open_source("digits:val", folder)
    return folder


def small_config(part, data_dir, **changes):
    """Few steps, few tests."""
    config = digits_config.get_config(part)
    config.io.data_dir = str(data_dir)
    config.evaluation.tests = ConfigDict(
        {n: f"digits:{n}" for n in ("clean", "inverted")}
    )
    config.evaluation.limit = 100
    config.recipe.steps = 2
    config.update_from_flattened_dict({full(k): v for k, v in changes.items()})
    return config


@pytest.fixture(scope="module")
def pretrained(data_dir, tmp_path_factory):
    """The folder of a pre-training."""
    folder = tmp_path_factory.mktemp("runs") / "pretrain-3"
    config = small_config("pretrain", data_dir, seed=3, steps=75)
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
def test_every_split_has_its_images(data_dir, split, images):
    source = open_source(f"digits:{split}", data_dir)
    assert (len(source), source.num_classes) == (images, 10)
    assert set(source.labels) == set(range(10))


def test_no_image_is_in_two_roles():
    by_split = {name: set(split.source) for name, split in digits.splits().items()}
    roles = [by_split[name] for name in ("broad", "train", "val", "clean")]
    assert len(set.union(*roles)) == sum(map(len, roles))
    assert by_split["broad_val"] == by_split["train"]
    assert all(by_split[domain] == by_split["clean"] for domain in digits.DOMAINS)


@pytest.mark.parametrize("name", ["clean", "fog"])
def test_images_are_those_of_the_quickstart_as_grey_rgb(data_dir, name):
    drawn = digits.splits()[name]
    expected = {
        (np.round(255 * image).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(drawn.images, drawn.labels, strict=True)
    }
    source = open_source(f"digits:{name}", data_dir)
    found = set()
    for i in range(len(source)):
        image = source[i]["image"]
        assert image.shape == (16, 16, 3)
        assert image.dtype == np.uint8
        assert np.ptp(image, axis=-1).max() == 0
        found.add((image[..., 0].tobytes(), source[i]["label"]))
    assert found == expected


def test_they_are_drawn_once(data_dir, monkeypatch):
    monkeypatch.setattr(digits, "splits", lambda: pytest.fail("they were drawn again"))
    assert len(open_source("digits:val", data_dir)) == SIZES["val"]


def test_fine_tuning_begins_with_what_another_run_selected(
    data_dir, pretrained, tmp_path
):
    before = small_config("pretrain", data_dir, seed=3, steps=75)
    selected, _ = records.load_selected(pretrained, leaves_of(before))
    config = small_config(
        "", data_dir, **{"io.weights": str(pretrained), "method": "ftp"}
    )
    record = train.run(config, tmp_path / "ftp", QUIET)
    assert record["start"] == "loaded head"
    for path in ("head/kernel", "backbone/conv1/kernel"):
        leaf, weights = record["leaves"][path], selected
        for key in path.split("/"):
            weights = weights[key]
        assert leaf["radius"] is not None
        assert leaf["norm"] == pytest.approx(np.abs(weights).sum(0).max(), rel=1e-5)
        assert 0 < leaf["drift"] < leaf["norm"] / 10


def leaves_of(config):
    """Params and statistics of the model that a configuration starts with."""
    found = train.set_up(config).start
    return found.params, found.statistics


def test_a_new_head_is_zero_although_the_other_run_had_one(data_dir, pretrained):
    changes = {"io.weights": str(pretrained), "start": "new head"}
    params, _ = leaves_of(small_config("", data_dir, **changes))
    assert not np.any(params["head"]["kernel"])
    changes["start"] = "loaded head"
    loaded, _ = leaves_of(small_config("", data_dir, **changes))
    assert np.any(loaded["head"]["kernel"])
    np.testing.assert_array_equal(
        params["backbone"]["conv1"]["kernel"], loaded["backbone"]["conv1"]["kernel"]
    )


def test_random_weights_depend_on_the_seed(data_dir):
    a, b = (
        leaves_of(small_config("pretrain", data_dir, seed=seed))[0] for seed in (0, 1)
    )
    assert np.any(a["backbone"]["conv1"]["kernel"] != b["backbone"]["conv1"]["kernel"])


def test_weights_that_cannot_be_the_start_are_refused(data_dir, pretrained, tmp_path):
    def set_up(**changes):
        config = small_config("", data_dir)
        config.io.weights = str(pretrained)
        config.model.options = ConfigDict(changes)
        config.data.image_size = (changes.get("image_size", 16),) * 2
        return config

    (tmp_path / "unfinished").mkdir()
    config = set_up()
    config.io.weights = str(tmp_path / "unfinished")
    with pytest.raises(records.RecordError, match="is not the folder of a finished ru"):
        train.set_up(config)
    with pytest.raises(
        records.RecordError,
        match=r"run of another model, small: params/backbone/hidden/kernel is "
        r"\(256, 128\) there, \(1024, 128\) here",
    ):
        train.set_up(set_up(image_size=32))
    arrays, _ = leaves_of(set_up())
    trunk = tmp_path / "trunk.npz"
    names = {
        f"backbone/{layer}/{name}": value
        for layer, leaves in arrays["backbone"].items()
        for name, value in leaves.items()
    }
    np.savez(trunk, **names)
    config = set_up()
    config.io.weights = str(trunk)
    with pytest.raises(WeightsError, match=r"no head for the 10 classes of digits:tra"):
        train.set_up(config)


def test_every_seed_of_a_sweep_starts_from_its_own_weights(tmp_path):
    config = digits_config.get_config("study")
    plan = sweep.planned("tune", sweep.settings(config), config.tune_seeds)
    for planned in plan:
        run = sweep.configured(config, planned, tmp_path)
        seed = re.fullmatch(r"runs/digits-pretrain-(\d)", run.io.weights)
        assert seed is not None
        assert int(seed[1]) == planned.seed
    assert len({planned.seed for planned in plan}) > 1
