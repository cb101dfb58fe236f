"""One run on mocked data, from the start to its record, with every method."""

import json
import re

import jax
import numpy as np
import pytest

from experiments import probing, records, start, train
from experiments.data import DataError
from experiments.evaluation import Evaluator
from experiments.methods import METHODS
from mocked_runs import IMAGES, QUIET, in_a_child, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_two_steps_and_is_measured_everywhere(method, tmp_path):
    record = train.run(small_config(method=method), tmp_path / "run", QUIET)
    assert record["status"] == "finished"
    assert set(record["evaluation"]) == {"id", "ood"}
    assert record["evaluation"]["ood"]["images"] == 24
    assert record == json.loads((tmp_path / "run/metrics.json").read_text())
    leaves, probes = record["leaves"], METHODS[method].probes
    assert list(leaves) == record["layers"]
    assert leaves["head/kernel"]["drift"] > 0
    if not probes:
        assert record["history"]["step"] == [2]
        assert np.isfinite(record["trace"]["loss"]).all()
    if method == "lp-ft":  # whatever the configuration says
        assert record["start"] == "probed head"
        assert leaves["head/kernel"]["norm"] > 0
    # The first step of a method with radii leaves the trunk where it was.
    moved = leaves["backbone/conv1/kernel"]["drift"] > 0
    assert moved == (METHODS[method].trains == "" and not probes)
    has_radii = method.startswith("ftp") or method == "tpgm"
    assert (leaves["backbone/conv1/kernel"]["radius"] is not None) == has_radii


def test_a_new_head_has_no_anchor_and_a_probed_one_has(tmp_path):
    new = train.run(small_config(method="ftp"), tmp_path / "new", QUIET)
    assert new["leaves"]["head/kernel"]["radius"] is None
    assert "start_evaluation" not in new  # a zero head can do nothing
    probed = train.run(
        small_config(method="ftp", start="probed head"), tmp_path / "probed", QUIET
    )
    assert probed["leaves"]["head/kernel"]["radius"] is not None
    assert probed["start"] == "probed head"
    # The first step of FTP is none, so after one the model is what it was.
    one = small_config(method="ftp", start="probed head", steps=1)
    still = train.run(one, tmp_path / "one", QUIET)
    before = still["start_evaluation"]
    assert before["id_val"] == still["id_val"]
    for name, found in still["evaluation"].items():
        for key in ("nll", "ece"):
            expected = before["evaluation"][name][key]
            assert found[key] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_wise_ft_mixes_the_weights_of_a_run_that_is_finished(tmp_path):
    tuned = small_config(method="fine-tune", wise_alphas=(0.0, 0.5, 1.0))
    whole = train.run(tuned, tmp_path / "tuned", QUIET)
    curve = whole["wise_curve"]
    assert curve["id"][-1] == whole["summary"]["id"]
    mixed = small_config(
        method="wise-ft", strength=0.5, trained_from=str(tmp_path / "tuned")
    )
    record = train.run(mixed, tmp_path / "mixed", QUIET)
    assert record["summary"]["ood"] == curve["ood"][1]
    for path, leaf in record["leaves"].items():
        assert leaf["drift"] == pytest.approx(
            whole["leaves"][path]["drift"] / 2, rel=1e-4
        )
    for option, value in (("start", "probed head"), ("learning_rate", 0.01)):
        other = small_config(
            method="wise-ft", trained_from=str(tmp_path / "tuned"), **{option: value}
        )
        with pytest.raises(records.RecordError, match=rf"trained_from: .*{option}: "):
            train.run(other, tmp_path / option, QUIET)
    mixed.io.trained_from = str(tmp_path / "mixed")
    with pytest.raises(records.RecordError, match=r"run of wise-ft; expected one of f"):
        train.run(mixed, tmp_path / "again", QUIET)


def test_a_mixture_with_a_run_that_diverged_has_diverged_too(tmp_path):
    train.run(small_config(method="fine-tune"), tmp_path / "tuned", QUIET)
    record = records.read(tmp_path / "tuned/metrics.json")
    records.write(tmp_path / "tuned/metrics.json", record | {"status": "diverged"})
    mixed = small_config(method="wise-ft", trained_from=str(tmp_path / "tuned"))
    assert train.run(mixed, tmp_path / "mixed", QUIET)["status"] == "diverged"


def test_accumulated_parts_of_a_batch_give_the_step_of_the_whole(tmp_path):
    whole = train.run(
        small_config(method="l2-sp", optimizer="sgd"), tmp_path / "whole", QUIET
    )
    parts = train.run(
        small_config(method="l2-sp", optimizer="sgd", accumulate=4),
        tmp_path / "parts",
        QUIET,
    )
    np.testing.assert_allclose(
        whole["trace"]["loss"], parts["trace"]["loss"], rtol=1e-4
    )
    for path, leaf in whole["leaves"].items():
        assert leaf["drift"] == pytest.approx(parts["leaves"][path]["drift"], rel=1e-2)


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_parameters(tmp_path):
    wide = train.run(small_config(method="ftp"), tmp_path / "wide", QUIET)
    config = small_config(**{"method": "ftp", "model.dtype": "bfloat16"})
    mixed = train.run(config, tmp_path / "mixed", QUIET)
    (a,), (b,) = wide["history"]["loss"], mixed["history"]["loss"]  # not rounded
    assert a != b
    assert a == pytest.approx(b, rel=0.02)
    setup = train.set_up(config)
    like = setup.start.params, setup.start.statistics
    params, _ = records.load_selected(tmp_path / "mixed", like)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_eight_devices_take_the_steps_of_one_and_leave_images_where_they_are(tmp_path):
    alone = train.run(small_config(method="ftp", steps=4), tmp_path / "one", QUIET)
    code = f"""
        assert jax.device_count() == 8
        config = small_config(method="ftp", steps=4)
        train.run(config, pathlib.Path({str(tmp_path / "eight")!r}), QUIET)
        setup = train.set_up(small_config(batch_size=64, accumulate=4))
        begin = setup.start.params, setup.start.statistics
        begin = setup.placement.replicated(begin)
        state = train.init_state(setup.training, setup.knobs, *begin)
        batch, _ = train.next_batches(setup.placement, train.iterators(setup))
        step = train.train_step.lower(
            setup.training, setup.knobs, state, batch, None
        )
        print(step.compile().as_text())
    """
    flags = "--xla_force_host_platform_device_count=8"
    done = in_a_child(code, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    together = records.read(tmp_path / "eight/metrics.json")
    np.testing.assert_allclose(
        alone["trace"]["loss"], together["trace"]["loss"], rtol=1e-4
    )
    assert " all-reduce(" in done.stdout  # of gradients
    assert not re.findall("all-gather|all-to-all|collective-permute", done.stdout)


def test_radii_and_drifts_of_a_record_are_of_the_same_step(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.3])  # the first epoch is the best
    monkeypatch.setattr(Evaluator, "validate", lambda *_: next(scores, 0.5))
    record = train.run(small_config(method="ftp", steps=9), tmp_path / "run", QUIET)
    assert record["selected"]["step"] == 3
    trace, path = record["trace"], "backbone/conv1/kernel"
    for quantity in ("radius", "drift", "bound"):
        at_selection = trace[quantity][path][trace["step"].index(3)]
        found = record["leaves"][path][quantity]
        assert found == pytest.approx(at_selection, rel=1e-3)
    assert trace["radius"][path][-1] > 1.5 * record["leaves"][path]["radius"]


def test_what_is_sent_to_the_devices_unnoticed_ends_the_training(tmp_path, monkeypatch):
    here = jax.numpy.zeros(2)
    draw = lambda *_: here + np.ones(2, np.float32)
    monkeypatch.setattr(train, "next_batches", draw)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"):
        train.run(small_config(), tmp_path / "run", QUIET)


def test_a_head_is_not_probed_on_a_single_class(tmp_path, monkeypatch):
    extract = probing.extract

    def one_class(*args):
        found = extract(*args)
        return found._replace(targets=np.zeros_like(found.targets))

    monkeypatch.setattr(probing, "extract", one_class)
    for changes in ({"start": "probed head"}, {"method": "linear-probe"}):
        with pytest.raises(
            DataError, match=r"data.train: .* two classes, got 1 in cif"
        ):
            train.run(small_config(**changes), tmp_path / "run", QUIET)


def test_a_head_is_probed_on_no_more_images_than_a_fit_bears(monkeypatch):
    config = small_config(start="probed head")
    features = lambda: start.Shared().probing(start.origin(config))
    whole = features()
    monkeypatch.setattr(probing, "EXAMPLES", IMAGES // 2)
    thin = features()
    assert [len(f.targets) for f in whole] == [IMAGES, IMAGES]
    assert [len(f.targets) for f in thin] == [IMAGES // 2, IMAGES]
    rows = {row.tobytes() for row in whole.train.vectors}
    assert all(row.tobytes() in rows for row in thin.train.vectors)
