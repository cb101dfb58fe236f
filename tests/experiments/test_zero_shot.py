"""A head that is made from the one of the weights, without training."""

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from experiments import models, records, train
from experiments.configs.values import SettingError
from experiments.models.backbone import names_and_leaves
from experiments.models.weights import WeightsError
from experiments.step import predict
from mocked_runs import QUIET, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")
OUTPUTS = 6
ROWS = {"3": (5,), "0": (1, 4)}


@pytest.fixture
def published(tmp_path):
    """A model of six classes whose head was trained, and its file of weights."""
    model = models.create("small", OUTPUTS, rngs=nnx.Rngs(0))
    head = 0.1 * np.random.default_rng(0).normal(size=model.head.kernel.shape)
    model.head.kernel[...] = head
    model.head.bias[...] = np.arange(OUTPUTS, dtype=np.float32)
    file = tmp_path / "weights.npz"
    np.savez(file, **{k: np.array(v) for k, v in names_and_leaves(model).items()})
    return model, file


def zero_shot(file, rows=None, classes=("3", "0"), **changes):
    config = small_config(
        **{"start": "zero-shot head", "io.weights": str(file), **changes}
    )
    config.data.classes = classes
    config.model.head_rows = ConfigDict(ROWS if rows is None else rows)
    return config


def test_a_class_is_the_mean_of_the_rows_that_it_is_given(published):
    model, file = published
    start = train.set_up(zero_shot(file)).start
    assert start.new == ()  # it is anchored
    images = jax.random.randint(jax.random.key(0), (4, 16, 16, 3), 0, 256)
    theirs = np.array(model(images, train=False))
    ours = predict(start.graphdef, start.params, start.statistics, images)
    expected = np.stack([theirs[:, 5], theirs[:, [1, 4]].mean(1)], 1)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_what_a_zero_shot_model_can_do_is_measured_before_it_is_fine_tuned(
    published, tmp_path
):
    _, file = published
    record = train.run(zero_shot(file), tmp_path / "run", QUIET)
    assert record["start"] == "zero-shot head"
    assert record["start_evaluation"]["evaluation"]["id"]["accuracy"] >= 0
    assert record["leaves"]["head/kernel"]["radius"] is not None


def test_a_finished_run_has_a_head_as_well(published, tmp_path):
    _, file = published
    config = zero_shot(file, start="loaded head", method="fine-tune")
    config.data.classes = ("0", "1", "2", "3", "4", "5")
    train.run(config, tmp_path / "run", QUIET)
    config = zero_shot(tmp_path / "run")
    end = train.set_up(config).start.params["head"]["bias"]
    before, _ = records.load_pretrained(
        tmp_path / "run", train.set_up(config).start[1:3]
    )
    theirs = before["head"]["bias"]
    np.testing.assert_allclose(end, [theirs[5], theirs[[1, 4]].mean()], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"3": (5,)}}, "head_rows: .* 0 to 5 for the class '0', got"),
        ({"rows": {"3": (6,), "0": (1,)}}, "rows from 0 to 5 .* class '3', got .6"),
        ({"rows": {"3": (-1,), "0": (1,)}}, "head_rows.3: expected a whole number"),
        ({"rows": {"3": (), "0": (1,)}}, "head_rows.3: expected at least one"),
        ({"rows": {"3": "5", "0": (1,)}}, "head_rows.3: expected a tuple"),
        ({"file": "random"}, "io.weights: a zero-shot head needs a file"),
    ],
)
def test_a_head_that_cannot_be_made_is_refused(changes, message, published, tmp_path):
    _, file = published
    file = changes.get("file", file)
    config = zero_shot(file, changes.get("rows"))
    with pytest.raises((SettingError, WeightsError), match=message):
        train.run(config, tmp_path / "run", QUIET)


def test_a_file_without_a_head_makes_none(published, tmp_path):
    _, file = published
    arrays = {k: v for k, v in np.load(file).items() if not k.startswith("head/")}
    np.savez(tmp_path / "trunk.npz", **arrays)
    with pytest.raises(WeightsError, match="has no head, so it has no rows"):
        train.run(zero_shot(tmp_path / "trunk.npz"), tmp_path / "run", QUIET)
