"""The paper's configurations on stand-ins: stopped, resumed, measured, reported.

Networks are narrow, weights random, images drawn or mocked; all else is as configured.
PASCAL-Context is in `data/test_pascal_context.py`.
"""

import pathlib

import pytest
from flax import nnx

import clip_files
from drawn_images import draw_lists
from experiments import continual, models, plan, train
from experiments.configs import domainnet, imagenet, imagenet_r_continual
from experiments.progress import Interrupted
from experiments.report import __main__ as report
from mocked_runs import IMAGES, QUIET, same, stop_at

SIDE = 32
CLIP_RESNET = {"depths": (1, 1), "stem": 8, "embedding": 12}
RESNET = {"depths": (1, 1), "stem": 8}
VIT = {"width": 24, "depth": 2, "heads": 3}


def small(config, **options):
    """The configuration with a narrow network, two steps and batches of four."""
    config.data.update(image_size=(SIDE, SIDE), resize=SIDE)
    config.model.options.update(options)
    config.recipe.update(steps=2, batch_size=4, warmup_epochs=0.0)
    config.evaluation.update(batch_size=8, observe_every=1)
    config.io.update(workers=0, weights="random")
    return config


def stopped_and_resumed(run, config, folder, monkeypatch, at):
    """The record of a run that was stopped at a batch, the same as of a whole one."""
    whole = run(config, folder / "whole", QUIET)
    with monkeypatch.context() as patched:
        stop_at(patched, at)
        with pytest.raises(Interrupted):
            run(config, folder / "parts", QUIET)
    resumed = run(config, folder / "parts", QUIET)
    assert report.main([str(folder / "parts"), "--out", str(folder / "report")]) == 0
    assert "Metric: accuracy" in (folder / "report/report.md").read_text()
    return whole, resumed


@pytest.mark.parametrize(
    ("part", "options"), [("clip", CLIP_RESNET), ("moco,low_label", RESNET)]
)
def test_domainnet(part, options, tmp_path, monkeypatch):
    config = small(domainnet.get_config(part), **options)
    # Of twelve images a tenth of a tenth would be nothing.
    config.data.update(train="list:real_train", validation="list:real_test", share=0.5)
    config.evaluation.tests = {d: f"list:{d}_test" for d in ("real", "sketch")}
    config.io.source_dir = str(draw_lists(tmp_path / "domainnet"))
    config.io.data_dir = str(tmp_path)
    whole, resumed = stopped_and_resumed(train.run, config, tmp_path, monkeypatch, 2)
    same(whole, resumed)
    assert {k: v["group"] for k, v in resumed["evaluation"].items()} == {
        "real": "id",
        "sketch": "ood",
    }


@pytest.fixture
def clip(tmp_path):
    """A folder with both towers of a narrow CLIP, and its tokenizer."""
    options = {**VIT, "embedding": 12, "image_size": SIDE, "projected": True}
    images = models.create("clip-vit-base-16", 3, rngs=nnx.Rngs(0), **options)
    (tmp_path / "templates.txt").write_text("a shark of {}\n")
    return clip_files.write(tmp_path, images)


@pytest.mark.usefixtures("mocked_data")
def test_imagenet_from_a_zero_shot_head(clip, tmp_path, monkeypatch):
    config = small(imagenet.get_config(), **VIT, embedding=12)
    config.io.weights = str(clip)
    config.model.templates = str(tmp_path / "templates.txt")
    assert config.model.class_texts == "imagenet"
    assert config.model.options.drop_path == 0.2
    whole, resumed = stopped_and_resumed(train.run, config, tmp_path, monkeypatch, 2)
    same(whole, resumed)
    assert resumed["evaluation"].keys() == {"imagenet", "v2", "a", "r", "sketch"}
    assert resumed["start_evaluation"]["evaluation"].keys() == {*resumed["evaluation"]}
    assert resumed["leaves"]["head/kernel"]["radius"] is not None


@pytest.mark.usefixtures("mocked_data")
def test_imagenet_r_class_by_class(tmp_path, monkeypatch):
    study = imagenet_r_continual.get_config()
    small(study.run, **VIT)
    study.run.sequence.classes_per_task = IMAGES // 2  # of classes that occur
    study.settings = {method: pairs[:1] for method, pairs in study.settings.items()}
    grid = plan.settings(study)
    config = next(
        plan.configured(study, run, pathlib.Path())
        for run in plan.planned("tune", grid, (0,))
        if run.method == "ftp"
    )
    run = continual.run
    whole, resumed = stopped_and_resumed(run, config, tmp_path, monkeypatch, 4)
    assert resumed["tasks"] == whole["tasks"]
    assert resumed["evaluation"].keys() == {"task 1", "task 2"}
