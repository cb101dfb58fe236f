"""The paper's configurations on stand-ins: stopped, resumed, measured, reported.

Networks are narrow, weights random, images drawn or mocked; all else is as configured.
"""

import pathlib

import pytest
from flax import nnx

import clip_files
from drawn_images import draw_lists
from drawn_pascal import SIDES, draw_pascal
from experiments import continual, models, plan, train
from experiments.configs import domainnet, imagenet, imagenet_r_continual
from experiments.configs import pascal_context as pascal
from experiments.progress import Interrupted
from experiments.report import __main__ as report
from experiments.tasks.task import Metric
from mocked_runs import IMAGES, QUIET, same, stop_at

SIDE = 32
CLIP_RESNET = {"depths": (1, 1), "stem": 8, "embedding": 12}
RESNET = {"depths": (1, 1), "stem": 8}
VIT = {"width": 24, "depth": 2, "heads": 3}
SWIN = {"width": 8, "depths": (1, 1), "heads": (1, 2), "window": 4}


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
    metric = f"Metric: {Metric(**resumed['metric']).label}"
    assert metric in (folder / "report/report.md").read_text()
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


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pascal(tmp_path_factory.mktemp("drawn") / "PASCAL_MT")


def of_pascal(task, drawn, data_dir):
    config = small(pascal.get_config(task), **SWIN)
    config.data.update(image_size=SIDES, resize=None)
    config.data.validation = f"pascal_context/{task}:val"  # a tenth of six is nothing
    config.evaluation.severities = (5,)
    config.io.update(source_dir=str(drawn), data_dir=str(data_dir))
    return config


@pytest.mark.parametrize("task", pascal.TASKS)
def test_pascal_context(drawn, task, tmp_path, monkeypatch):
    pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug")
    config = of_pascal(task, drawn, tmp_path)
    config.method.free_head = True  # what else is new stays free as well
    if task == "parts":  # one of three is stopped, as this takes long
        whole, record = stopped_and_resumed(train.run, config, tmp_path, monkeypatch, 2)
        same(whole, record)
    else:
        record = train.run(config, tmp_path / "run", QUIET)
    assert record["metric"]["name"] == (
        "mean_angle" if task == "normals" else "mean_iou"
    )
    assert len(record["evaluation"]) == 1 + len(config.evaluation.corruptions)
    held = {k: leaf["radius"] is not None for k, leaf in record["leaves"].items()}
    assert not held["decoder/fuse/kernel"]  # it is as new as the head
    assert held["backbone/patches/kernel"]
    assert record["evaluation"]["clean"]["images"] == (2 if task == "parts" else 3)


# A probe, a start from one, a held-out loss, a mixture; other methods see gradients.
@pytest.mark.parametrize("method", ["linear-probe", "lp-ft", "tpgm", "wise-ft", "ftp"])
def test_every_kind_of_method_on_a_target_a_pixel(drawn, method, tmp_path):
    config = of_pascal("parts", drawn, tmp_path)
    config.evaluation.corruptions = ()
    config.model.update(name="resnet18", decoder="linear", dtype="float32")
    config.model.options = RESNET
    config.method.name = method
    record = train.run(config, tmp_path / "run", QUIET)
    assert record["status"] == "finished"
    assert 0 <= record["evaluation"]["clean"]["mean_iou"] <= 1
    assert record["leaves"]["head/kernel"]["drift"] > 0
