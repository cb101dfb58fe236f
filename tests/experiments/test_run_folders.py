"""The folder of a run: what may be continued there, and what is refused."""

import numpy as np
import pytest
from flax import nnx

from experiments import models, records, train
from experiments.models.backbone import names_and_leaves
from experiments.models.weights import WeightsError
from experiments.progress import Interrupted
from mocked_runs import QUIET, small_config, stop_at

pytestmark = pytest.mark.usefixtures("mocked_data")


def test_a_run_that_was_refused_before_its_first_step_can_be_corrected(tmp_path):
    wrong = small_config(**{"io.weights": "missing.npz", "seed": 3})
    with pytest.raises(WeightsError):
        train.run(wrong, tmp_path / "run", QUIET)
    record = train.run(small_config(), tmp_path / "run", QUIET)
    assert record["seed"] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"editor": "dark"}')
    with pytest.raises(records.RecordError, match="another configuration"):
        train.run(small_config(), tmp_path / "other", QUIET)


def test_other_weights_under_the_same_path_are_refused(tmp_path):
    def save(seed):
        model = models.create("small", 10, rngs=nnx.Rngs(seed))
        arrays = names_and_leaves(model)
        np.savez(tmp_path / "w.npz", **{k: np.array(x) for k, x in arrays.items()})

    save(0)
    config = small_config(**{"io.weights": str(tmp_path / "w.npz")})
    first = train.run(config, tmp_path / "run", QUIET)
    (tmp_path / "w.npz").rename(tmp_path / "moved.npz")
    moved = small_config(**{"io.weights": str(tmp_path / "moved.npz")})
    assert train.run(moved, tmp_path / "run", QUIET) == first
    noted = (tmp_path / "run/config.json").read_text()
    assert "moved" not in noted
    save(1)
    with pytest.raises(records.RecordError, match=r"another content of io.weights"):
        train.run(config, tmp_path / "run", QUIET)
    assert (tmp_path / "run/config.json").read_text() == noted


def test_only_a_finished_run_may_have_other_workers(tmp_path, monkeypatch):
    config = small_config(method="fine-tune")
    with monkeypatch.context() as patched:
        stop_at(patched, 1)
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "run", QUIET)
    other = small_config(method="fine-tune", workers=2)
    with pytest.raises(records.RecordError, match=r"io.workers: 0 there, 2 now"):
        train.run(other, tmp_path / "run", QUIET)
    finished = train.run(config, tmp_path / "run", QUIET)
    monkeypatch.setattr(train, "set_up", lambda *_: pytest.fail("it ran again"))
    assert train.run(other, tmp_path / "run", QUIET) == finished


def test_a_run_that_is_older_than_an_option_goes_on_with_its_default(tmp_path):
    config = small_config(method="fine-tune")
    first = train.run(config, tmp_path / "run", QUIET)
    old = records.read(tmp_path / "run/config.json")
    del old["evaluation"]["own_classes"], old["recipe"]["clip_norm"]
    records.write(tmp_path / "run/config.json", old)
    assert train.run(config, tmp_path / "run", QUIET) == first
    for option, default in (("clip_norm", "0.0"), ("learning_rate", "0.001")):
        other = small_config(method="fine-tune", **{option: 1.0})
        words = rf"{option}: {default} there, 1\.0 now"
        with pytest.raises(records.RecordError, match=words):
            train.run(other, tmp_path / "run", QUIET)
