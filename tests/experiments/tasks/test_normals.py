"""Surface normals: drawn scenes whose normals are known exactly."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from drawn_scenes import SIDE, prepare, scene
from experiments import train
from experiments.configs.values import SettingError
from experiments.data.batches import train_batches
from experiments.data.examples import unit_vectors
from experiments.data.sources import open_source
from experiments.data.transforms import apply
from experiments.evaluation import Evaluator
from experiments.setup import set_up
from experiments.tasks import TARGETS, normals, task_of
from experiments.tasks.normals import TASK
from mocked_runs import QUIET, small_config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("scenes"))


def turned(vectors, degrees):
    """Unit vectors turned by an angle; where there is none, any vector stands."""
    vectors = np.where(vectors == 0, 1e-9, vectors)
    other = np.where(np.abs(vectors[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
    axis = np.cross(vectors, other)
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.deg2rad(degrees)
    return np.cos(angle) * vectors + np.sin(angle) * np.cross(axis, vectors)


def measured(vectors, truth, mask=None):
    mask = np.ones(len(truth), bool) if mask is None else mask
    return normals.figures(
        normals.tally(jnp.asarray(vectors), jnp.asarray(truth), mask)
    )


def test_what_is_drawn_is_what_is_read_and_moves_with_its_image(data_dir):
    source = open_source("scenes:test", data_dir, targets=TARGETS)
    assert task_of(source.target) is TASK
    assert (source.num_classes, TASK.outputs(source.num_classes)) == (0, 3)
    drawn = {scene(seed)[0].tobytes(): scene(seed)[1] for seed in range(200, 208)}
    for i in range(len(source)):
        expected = drawn[source[i]["image"].tobytes()]
        np.testing.assert_allclose(source[i]["normals"], expected, atol=1e-6)
    batches = train_batches(source, batch_size=8, image_size=24, seed=0, flip=False)
    batch = next(iter(batches))
    assert batch["normals"].dtype == np.float32
    red = batch["normals"] @ np.array([0.6, 0.0, 0.8])
    known = normals.is_known(batch["normals"])
    seen = batch["image"][..., 0]
    assert np.corrcoef(red[known].clip(0), seen[known])[0, 1] > 0.95


def test_colours_are_read_as_vectors_and_black_as_none():
    _, field = scene(0)
    colours = np.round(127.5 * (field + 1)).astype(np.uint8)
    colours[:, 0] = 0
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "png")
    found = unit_vectors(file.getvalue())
    assert not found[:, 0].any()
    assert np.degrees(np.arccos(np.sum(found * field, -1)[:, 1:].clip(-1, 1))).max() < 1


@pytest.mark.parametrize("most", [0.01, 11.0, 20.0, 29.0, 60.0, 179.9])
def test_angles_are_those_that_vectors_were_turned_by(most):
    """Of vectors of any length, over what is known, in one batch or in two."""
    truth = np.stack([scene(seed)[1] for seed in range(4)])
    degrees = np.random.default_rng(0).uniform(most / 2, most, (4, SIDE, SIDE, 1))
    vectors = (3 * turned(truth.astype(np.float64), degrees)).astype(np.float32)
    mask, counted = np.array([True, True, True, False]), degrees[:3, :, 1:]
    figures = measured(vectors, truth, mask)
    assert figures["mean_angle"] == pytest.approx(counted.mean(), rel=1e-3)
    assert figures["median_angle"] == pytest.approx(np.median(counted), abs=0.1)
    squared = np.sqrt((counted**2).mean())
    assert figures["rms_angle"] == pytest.approx(squared, rel=1e-3)
    for limit in (11.25, 22.5, 30):
        share = (counted < limit).mean()
        assert figures[f"under_{limit:g}"] == pytest.approx(share, abs=1e-3)
    assert figures["images"] == 3
    halves = [
        normals.tally(vectors[i : i + 2], truth[i : i + 2], mask[i : i + 2])
        for i in (0, 2)
    ]
    total = jax.tree.map(lambda a, b: a + b, *halves)
    assert normals.figures(total) == pytest.approx(figures)


def test_nothing_known_is_an_error_and_no_number_is_as_wrong_as_can_be():
    _, truth = scene(0)
    with pytest.raises(ValueError, match="nothing to measure: no image has a normal"):
        measured(truth[None], 0 * truth[None])
    found = measured(np.full_like(truth[None], np.nan), truth[None])
    assert found["mean_angle"] == pytest.approx(180)


def test_the_loss_is_less_the_smaller_the_angle_and_knows_what_is_known():
    _, truth = scene(1)
    truth, vectors = truth[None], turned(truth[None].astype(np.float64), 60.0)
    loss = TASK.loss(jnp.asarray(1e3 * vectors), jnp.asarray(truth), 0.0)
    assert loss == pytest.approx(0.5, rel=1e-4)
    vectors[:, :, 0] = 7.0  # where there is no normal
    again = TASK.loss(jnp.asarray(1e3 * vectors), jnp.asarray(truth), 0.0)
    assert again == pytest.approx(float(loss), rel=1e-5)
    gradient = jax.grad(TASK.loss)(jnp.zeros(truth.shape), jnp.asarray(truth), 0.0)
    assert np.isfinite(gradient).all()
    assert (np.sum(gradient * truth, -1)[:, :, 1:] < 0).all()


def test_a_mirrored_scene_has_the_normals_of_its_mirror_image():
    image, field = scene(2)
    whole = (0, 0, SIDE, SIDE)
    element = {"image": image, "normals": field}
    changed = apply(element, whole, (SIDE, SIDE), True, TASK.target)
    np.testing.assert_array_equal(changed["image"], image[:, ::-1])
    np.testing.assert_array_equal(changed["normals"], field[:, ::-1] * [-1, 1, 1])
    # Light from the right is light from the left in the mirror.
    right = field @ np.array([0.6, 0.0, 0.8])
    left = changed["normals"] @ np.array([-0.6, 0.0, 0.8])
    np.testing.assert_allclose(left, right[:, ::-1], atol=1e-6)


def config(data_dir, **changes):
    found = small_config(
        **{
            "data.train": "scenes:train",
            "data.validation": "scenes:val",
            "io.data_dir": str(data_dir),
            "data.image_size": (SIDE, SIDE),
            "model.name": "mobilenet-v1",
            "start": "probed head",
            **changes,
        }
    )
    found.evaluation.tests = {"id": "scenes:test", "ood": "scenes:val"}
    return found


def test_a_probe_learns_normals_and_a_run_keeps_the_epoch_with_the_least_angle(
    data_dir, tmp_path, monkeypatch
):
    record = train.run(config(data_dir, method="linear-probe"), tmp_path / "p", QUIET)
    metric = {"name": "mean_angle", "higher_is_better": False, "unit": "°"}
    assert record["metric"] == metric
    constant = np.stack([scene(seed)[1] for seed in range(200, 208)])
    mean = constant.reshape(-1, 3).mean(0)
    blind = measured(np.broadcast_to(mean, constant.shape), constant)["mean_angle"]
    assert record["summary"]["id"] < blind
    kept = record["summary"]["id"] / record["summary"]["ood"]
    assert record["summary"]["relative_robustness"] == pytest.approx(kept)

    scores = iter([30.0, 20.0, 25.0])
    monkeypatch.setattr(Evaluator, "validate", lambda *_: next(scores, 20.0))
    tuned = config(data_dir, method="fine-tune", steps=9)
    assert train.run(tuned, tmp_path / "t", QUIET)["selected"]["step"] == 6


def test_smoothing_has_no_classes_to_spread_over(data_dir):
    with pytest.raises(SettingError, match="label_smoothing: surface normals has"):
        set_up(config(data_dir, label_smoothing=0.1))


@pytest.mark.parametrize(
    ("option", "value", "none"),
    [
        ("recipe.mixup", 0.8, "0.0"),
        ("recipe.mask_classes", True, "False"),
        ("data.randaugment", 9.0, "0.0"),
        ("data.random_erasing", 0.25, "0.0"),
        ("evaluation.own_classes", ("id",), r"\(\)"),
    ],
)
def test_what_asks_for_a_label_an_image_is_refused(data_dir, option, value, none):
    with pytest.raises(SettingError, match=f"{option}: .* expected {none}, got"):
        set_up(config(data_dir, **{option: value}))
