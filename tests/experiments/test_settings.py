"""What the options of a run lead to, and those that are refused before it begins."""

from typing import Any

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict, FrozenConfigDict

from drawn_images import draw_camvid
from experiments import models, setup, train
from experiments.configs import base
from experiments.configs.values import SettingError
from experiments.data import corruptions
from experiments.methods import Held
from experiments.models.backbone import names_and_leaves
from experiments.models.weights import WeightsError
from experiments.setup import set_up
from mocked_runs import QUIET, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")


def test_the_recipe_of_a_step_is_what_the_configuration_says():
    chosen = {
        "optimizer": "sgd",
        "steps": 9,
        "epochs": 5,
        "batch_size": 4,
        "warmup_epochs": 0.5,
        "final_scale": 0.1,
        "weight_decay": 0.01,
        "momentum": 0.8,
        "clip_norm": 2.0,
        "accumulate": 2,
        "label_smoothing": 0.1,
        "freeze_statistics": True,
        "decay_each": "epoch",
        "mixup": 0.8,
        "cutmix": 1.0,
        "layer_decay": 0.9,
        "ema": 0.99,
        "mask_classes": True,
    }
    default = base.get_config().recipe
    for name, value in chosen.items():
        assert default[name] != value, "it could be ignored"
    assert chosen.keys() == default.to_dict().keys()
    config = small_config(method="l2-sp", **chosen)
    training = set_up(config).training
    assert training.recipe == FrozenConfigDict(chosen)
    assert (training.method, training.warmup_steps) == ("l2-sp", 3)
    assert training.held == Held(exclude=("^head/",))
    assert training.layers[-1] == "head/bias"
    assert training.allowed == set_up(config).train.occurring
    assert (float(set_up(config).knobs.seed), training.steps_per_epoch) == (0, 6)
    assert hash(training) == hash(
        set_up(small_config(method="l2-sp", **chosen)).training
    )
    epochs = set_up(small_config(steps=0, epochs=2)).training  # of three batches each
    assert (epochs.steps_per_epoch, epochs.recipe.steps) == (3, 6)


def test_training_draws_from_the_training_set_and_radii_from_the_validation_set(
    monkeypatch,
):
    drawn = {}

    def batches(source, **options):
        drawn[source.name] = options
        return [source.name]

    monkeypatch.setattr(setup, "train_batches", batches)
    chosen = {"data.scale": (0.3, 0.9), "data.flip": False}
    chosen |= {"randaugment": 9.0, "random_erasing": 0.25}
    config = small_config(method="tpgm", seed=5, **chosen, **{"io.workers": 2})
    found = train.iterators(set_up(config))
    assert {name: next(names) for name, names in found.items()} == {
        "train": "cifar10:train",
        "held_out": "cifar10:test",
    }
    shared = {"batch_size": 8, "image_size": (16, 16), "seed": 5, "workers": 2}
    shared |= {"flip": False}
    changed = {"scale": (0.3, 0.9), "magnitude": 9.0, "erasing": 0.25}
    assert drawn["cifar10:train"] == shared | changed
    assert drawn["cifar10:test"] == shared | {"scale": (1.0, 1.0)}
    train.iterators(set_up(small_config(method="tpgm")))
    assert [drawn[f"cifar10:{split}"]["flip"] for split in ("train", "test")] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ftpp"}, "method.name: expected one of .*Did you mean 'ftp'"),
        ({"model.name": "resnet"}, "model.name: expected one of"),
        ({"start": "old head"}, "start: expected one of new head, probed head"),
        ({"evaluation.id": "photo"}, "evaluation.id and .*: expected one of id, ood"),
        ({"data.train": None}, "data.train: it has no default"),
        ({"method": "fine-tune", "strength": 0.5}, "strength: fine-tune has none"),
        ({"accumulate": 3}, "accumulate: expected a divisor of batch_size, 8"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 to"),
        ({"epochs": 0, "steps": 0}, "epochs: expected a number above 0"),
        ({"io.weights": None}, "io.weights: expected a file, .* or 'random'"),
        ({"start": "loaded head"}, "io.weights: a loaded head needs a file"),
        ({"method": "ftp", "strength": 1.5}, r"strength: .* in \[0, 1\], got 1.5"),
        ({"method": "spd", "strength": -1.0}, "strength: .* from 0 on, got -1"),
        ({"method": "ftp", "trained_from": "runs/x"}, "trained_from: ftp trains by"),
        ({"label_smoothing": 7.0}, r"label_smoothing: .* in \[0, 1\], not 1, got 7"),
        ({"label_smoothing": 1.0}, r"label_smoothing: .* in \[0, 1\], not 1, got 1"),
        ({"momentum": 1.0}, r"momentum: .* in \[0, 1\], not 1, got 1"),
        ({"final_scale": 2.0}, r"final_scale: .* in \[0, 1\], got 2"),
        ({"learning_rate": float("inf")}, "learning_rate: .* finite .*, got inf"),
        ({"learning_rate": float("nan")}, "learning_rate: .* finite .*, got nan"),
        ({"seed": -1}, "seed: expected a whole number from 0 on, got -1"),
        ({"io.workers": -1}, "io.workers: expected a whole number from 0 on"),
        ({"data.image_size": (64,)}, r"data.image_size: .* two numbers.*\(64,\)"),
        ({"data.image_size": ("(3", "4")}, "data.image_size: expected two numbers"),
        ({"data.image_size": (64, 0)}, "data.image_size: expected a whole number"),
        ({"data.scale": (0.5,)}, r"data.scale: expected two numbers.*\(0.5,\)"),
        ({"data.resize": 8}, r"data.resize: .* shorter side .*\(16, 16\).* got 8"),
        ({"decay_each": "year"}, "decay_each: expected one of step, epoch"),
        ({"mixup": -0.1}, "mixup: expected a finite number from 0 on"),
        ({"layer_decay": 0.0}, r"layer_decay: .* in \[0, 1\], not 0, got 0"),
        ({"ema": 1.0}, r"ema: .* in \[0, 1\], not 1, got 1"),
        ({"clip_norm": -1.0}, "clip_norm: expected a finite number from 0 on"),
        ({"wise_alphas": (0.5, 3.0)}, r"wise_alphas: .* in \[0, 1\], got 3"),
        ({"data.scale": (1.0, 0.5)}, "data.scale: expected shares of the area"),
        ({"evaluation.limit": -3}, "evaluation.limit: expected a whole number from 0"),
        ({"evaluation.corruptions": ("foggy",)}, "corruptions: .*Did you mean 'fog'"),
        ({"evaluation.corruptions": ("fog",)}, "image_size: corruptions need 32 pix"),
        ({"evaluation.severities": (6,)}, "severities: expected one of 1, 2, 3, 4, 5"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(changes, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        train.run(small_config(**changes), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_corruptions_without_their_library_are_refused_before_training(
    tmp_path, monkeypatch
):
    def fail():
        raise ImportError("pip install imagecorruptions-imaug.")

    monkeypatch.setattr(corruptions, "library", fail)
    config = small_config(
        **{"evaluation.corruptions": ("fog",), "data.image_size": (32, 32)}
    )
    with pytest.raises(SettingError, match=r"evaluation.corruptions: pip install"):
        train.run(config, tmp_path / "run", QUIET)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(SettingError, match=r"warmup_epochs: .* takes 2 steps"):
        train.set_up(small_config(warmup_epochs=1.0))


@pytest.mark.parametrize(
    "changes",
    [
        *({"mixup": 0.8}, {"cutmix": 1.0}, {"mask_classes": True}),
        *({"randaugment": 9.0}, {"random_erasing": 0.25}),
    ],
)
def test_what_needs_the_label_of_an_image_is_refused_of_masks(changes, tmp_path):
    config = small_config(**changes)
    config.data.train, config.data.validation = "camvid:train", "camvid:val"
    config.evaluation.tests = {"id": "camvid:test"}
    config.io.source_dir = str(draw_camvid(tmp_path / "camvid"))
    config.io.data_dir = str(tmp_path / "data")
    (name,) = changes
    words = f"{name}: segmentation has no labels of whole images; expected"
    with pytest.raises(SettingError, match=words):
        set_up(config)


def test_a_decoder_needs_a_target_a_pixel():
    with pytest.raises(SettingError, match="decoder: cifar10:train has no target a p"):
        set_up(small_config(decoder="mlp"))


def test_a_model_is_made_for_the_size_of_the_images(tmp_path):
    config = small_config(**{"model.name": "vit-tiny-16", "data.image_size": (32, 32)})
    params: Any = set_up(config).start.params
    assert params["backbone"]["pos_embed"].shape[-2] == 1 + (32 // 16) ** 2
    for size, given, message in (
        ((32, 48), {}, r"data.image_size: .*takes square images, .* 32 .*\(32, 48\)"),
        ((40, 40), {}, r"model.options: vit-tiny-16: image_size: expected a multiple"),
        ((32, 32), {"depht": 3}, r"model.options: vit-tiny-16: .*'depht'"),
        ((32, 32), {"drop_path": 1.0}, r"model.options: .* drop_path: .* \[0, 1\)"),
    ):
        config = small_config(**{"model.name": "vit-tiny-16", "data.image_size": size})
        config.model.options = ConfigDict(given)
        with pytest.raises(SettingError, match=message):
            train.run(config, tmp_path / "run", QUIET)


def test_a_file_of_another_network_is_refused_with_those_that_it_fits(tmp_path):
    path = str(tmp_path / "w.npz")
    small = models.create("small", 7, rngs=nnx.Rngs(0))
    np.savez(path, **{k: np.asarray(x) for k, x in names_and_leaves(small).items()})
    change = {"model.name": "mobilenet-v1", "io.weights": path}
    with pytest.raises(WeightsError, match=r"w.npz is .* Try model.name=small\.$"):
        set_up(small_config(**change))
    np.savez(path, **{"dense.kernel": np.zeros((2, 2))})
    with pytest.raises(WeightsError, match=r"of your own\.$"):
        set_up(small_config(**change))
