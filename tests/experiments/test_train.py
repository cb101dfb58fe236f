"""The training loop, end to end on mocked data: every method, and every way to stop."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from rich.console import Console

from experiments import models, records, train
from experiments.datasets import imagenet_c
from experiments.interruption import Interrupted
from experiments.log import Log
from experiments.methods import METHODS
from experiments.models.parameters import names_and_leaves
from experiments.models.weights import WeightsError
from experiments.progress import progress
from experiments.settings import SettingError
from experiments.setup import set_up
from mocked_runs import QUIET, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")

SAME = ("history", "trace", "leaves", "evaluation", "id_val", "selected", "summary")


def in_a_child(code, **environment):
    """Runs code in a process of its own, with this module's imports."""
    script = f"""
import os, pathlib, signal, sys
sys.path[:0] = {sys.path!r}
import jax
import tensorflow_datasets as tfds
from experiments import train
from mocked_runs import IMAGES, QUIET, small_config
with tfds.testing.mock_data(num_examples=IMAGES):
{textwrap.indent(textwrap.dedent(code), "    ")}
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def same(a, b):
    for key in SAME:
        np.testing.assert_equal(a[key], b[key], err_msg=key)


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


def test_lp_ft_starts_from_a_probed_head_whatever_the_configuration_says(tmp_path):
    record = train.run(small_config(method="lp-ft"), tmp_path / "run", QUIET)
    assert record["start"] == "probed head"
    assert record["leaves"]["head/kernel"]["norm"] > 0


@pytest.mark.parametrize("method", ["ftp", "tpgm"])
def test_a_run_that_is_told_to_stop_goes_on_with_the_same_numbers(
    method, tmp_path, monkeypatch
):
    config = small_config(method=method, steps=7)
    whole = train.run(config, tmp_path / "whole", QUIET)
    taken = []
    draw = train.next_batches

    def draw_and_stop(*args):
        taken.append(None)
        if len(taken) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*args)

    monkeypatch.setattr(train, "next_batches", draw_and_stop)
    with pytest.raises(Interrupted) as interrupted:
        train.run(config, tmp_path / "parts", QUIET)
    assert interrupted.value.status == 143
    assert len(taken) == 4
    assert not (tmp_path / "parts/metrics.json").exists()
    same(whole, train.run(config, tmp_path / "parts", QUIET))
    assert len(taken) == 7


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path):
    config = small_config(method="ftp", steps=7, save_every=3)
    whole = train.run(config, tmp_path / "whole", QUIET)
    done = in_a_child(f"""
        draw, taken = train.next_batches, []
        def draw_and_die(*args):
            taken.append(None)
            if len(taken) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return draw(*args)
        train.next_batches = draw_and_die
        config = small_config(method="ftp", steps=7, save_every=3)
        train.run(config, pathlib.Path({str(tmp_path / "parts")!r}), QUIET)
    """)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "parts/checkpoints/3").is_dir()
    same(whole, train.run(config, tmp_path / "parts", QUIET))


def test_a_finished_run_is_not_run_again(tmp_path, monkeypatch):
    config = small_config(method="fine-tune")
    first = train.run(config, tmp_path / "run", QUIET)
    monkeypatch.setattr(train, "set_up", lambda _: pytest.fail("it ran again"))
    assert train.run(config, tmp_path / "run", QUIET) == first


def test_the_folder_of_another_configuration_is_refused(tmp_path):
    train.run(small_config(method="fine-tune"), tmp_path / "run", QUIET)
    with pytest.raises(
        records.RecordError, match=r"learning_rate: 0.001 there, 0.01 now"
    ):
        train.run(
            small_config(method="fine-tune", learning_rate=0.01),
            tmp_path / "run",
            QUIET,
        )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(records.RecordError, match=r"no run's folder"):
        train.run(small_config(), tmp_path / "mine", QUIET)


def test_a_run_that_was_refused_before_its_first_step_can_be_corrected(tmp_path):
    wrong = small_config(**{"model.weights": "missing.npz", "seed": 3})
    with pytest.raises(WeightsError):
        train.run(wrong, tmp_path / "run", QUIET)
    record = train.run(small_config(), tmp_path / "run", QUIET)
    assert record["seed"] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"editor": "dark"}')
    with pytest.raises(records.RecordError, match="another configuration"):
        train.run(small_config(), tmp_path / "other", QUIET)


def test_a_model_is_made_for_the_size_of_the_images(tmp_path):
    def options(**changes):
        config = small_config(**{"model.name": "vit-tiny-16", **changes})
        return dict(set_up(config).origin.options)

    assert options(**{"data.image_size": (32, 32)}) == {"image_size": 32}
    for size, given, message in (
        ((32, 48), {}, r"data.image_size: .*takes square images, .* 32 .*\(32, 48\)"),
        ((40, 40), {}, r"model.options: vit-tiny-16: image_size: expected a multiple"),
        ((32, 32), {"depht": 3}, r"model.options: vit-tiny-16: .*'depht'"),
    ):
        config = small_config(**{"model.name": "vit-tiny-16", "data.image_size": size})
        config.model.options = ConfigDict(given)
        with pytest.raises(SettingError, match=message):
            train.run(config, tmp_path / "run", QUIET)


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
        with pytest.raises(records.RecordError, match=rf"trained_from: .*\({option}: "):
            train.run(other, tmp_path / option, QUIET)
    mixed.trained_from = str(tmp_path / "mixed")
    with pytest.raises(records.RecordError, match=r"run of wise-ft; expected one of f"):
        train.run(mixed, tmp_path / "again", QUIET)


def test_a_mixture_with_a_run_that_diverged_has_diverged_too(tmp_path):
    train.run(small_config(method="fine-tune"), tmp_path / "tuned", QUIET)
    record = records.read(tmp_path / "tuned/metrics.json")
    records.write(tmp_path / "tuned/metrics.json", record | {"status": "diverged"})
    mixed = small_config(method="wise-ft", trained_from=str(tmp_path / "tuned"))
    assert train.run(mixed, tmp_path / "mixed", QUIET)["status"] == "diverged"


def test_accumulated_parts_of_a_batch_give_the_step_of_the_whole(tmp_path):
    whole = train.run(small_config(method="l2-sp"), tmp_path / "whole", QUIET)
    parts = train.run(
        small_config(method="l2-sp", accumulate=4), tmp_path / "parts", QUIET
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
    a, b = wide["trace"]["loss"][-1], mixed["trace"]["loss"][-1]
    assert a != b
    assert a == pytest.approx(b, rel=0.02)
    setup = train.set_up(config)
    like = setup.start.params, setup.start.statistics
    params, _ = records.load_selected(tmp_path / "mixed", like)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_the_recipe_of_a_step_is_what_the_configuration_says():
    chosen = {"freeze_statistics": True, "label_smoothing": 0.1, "clip_norm": 2.0}
    recipe = train.set_up(small_config(**chosen)).recipe
    assert {name: getattr(recipe, name) for name in chosen} == chosen


def test_tensorboard_can_show_loss_accuracy_radii_and_drifts(tmp_path):
    train.run(small_config(method="ftp"), tmp_path / "run", QUIET)
    (events,) = (tmp_path / "run/tensorboard").iterdir()
    content = events.read_bytes()
    for tag in ("train/loss", "train/accuracy", "validation/id"):
        assert tag.encode() in content
    for quantity in ("radius", "drift", "bound"):
        assert f"{quantity}/backbone/conv1/kernel".encode() in content


def test_a_terminal_shows_images_per_second_and_the_time_left():
    console = Console(force_terminal=True, width=140, file=io.StringIO())
    with progress(console, total=4, images=8) as advance:
        for _ in range(4):
            advance("epoch 1", 1)
            time.sleep(0.1)
    shown = console.file.getvalue()
    rates = [int(rate) for rate in re.findall(r"(\d+) images/s", shown)]
    assert rates
    assert 10 < max(rates) <= 100  # 8 images every 0.1 s, at most
    assert "4/4" in shown


def test_eight_devices_take_the_steps_of_one(tmp_path):
    alone = train.run(small_config(method="ftp", steps=4), tmp_path / "one", QUIET)
    code = f"""
        assert jax.device_count() == 8
        config = small_config(method="ftp", steps=4)
        train.run(config, pathlib.Path({str(tmp_path / "eight")!r}), QUIET)
    """
    flags = "--xla_force_host_platform_device_count=8"
    done = in_a_child(code, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    together = records.read(tmp_path / "eight/metrics.json")
    np.testing.assert_allclose(
        alone["trace"]["loss"], together["trace"]["loss"], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ftpp"}, "method: expected one of .*Did you mean 'ftp'"),
        ({"model.name": "resnet"}, "model.name: expected one of"),
        ({"start": "old head"}, "start: expected one of new head, probed head"),
        ({"data.id": "photo"}, "data.id and .*: expected one of id, ood"),
        ({"data.train": None}, "data.train: it has no default"),
        ({"method": "fine-tune", "strength": 0.5}, "strength: fine-tune has none"),
        ({"accumulate": 3}, "accumulate: expected a divisor of batch_size, 8"),
        ({"batch_size": 0}, "batch_size: expected a number from 1 on, got 0"),
        ({"epochs": 0, "steps": 0}, "epochs: expected a number above 0"),
        ({"start": "loaded head"}, "model.weights: it has no default"),
        ({"method": "ftp", "strength": 1.5}, r"strength: .* in \[0, 1\], got 1.5"),
        ({"method": "spd", "strength": -1.0}, r"strength: .* in \[0, inf\], got -1"),
        ({"method": "ftp", "trained_from": "runs/x"}, "trained_from: ftp trains by"),
        ({"label_smoothing": 7.0}, r"label_smoothing: expected a number in \[0, 1\]"),
        ({"clip_norm": -1.0}, "clip_norm: expected a number from 0 on, got -1"),
        ({"wise_alphas": (0.5, 3.0)}, r"wise_alphas: .* in \[0, 1\], got 3"),
        ({"data.scale": (1.0, 0.5)}, "data.scale: expected shares of the area"),
        ({"data.limit": -3}, "data.limit: expected a number from 0 on"),
        ({"data.corruptions": ("foggy",)}, "data.corruptions: .*Did you mean 'fog'"),
        ({"data.severities": (6,)}, "data.severities: expected one of 1, 2, 3, 4, 5"),
        ({"data.corruptions": ("fog",)}, "data.image_size: corruptions need 32 pixels"),
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

    monkeypatch.setattr(imagenet_c, "_library", fail)
    config = small_config(**{"data.corruptions": ("fog",), "data.image_size": (32, 32)})
    with pytest.raises(SettingError, match=r"data.corruptions: pip install"):
        train.run(config, tmp_path / "run", QUIET)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(SettingError, match=r"warmup_epochs: .* takes 2 steps"):
        train.set_up(small_config(warmup_epochs=1.0))


def test_other_weights_under_the_same_path_are_refused(tmp_path):
    def save(seed):
        model = models.create("small", 10, rngs=nnx.Rngs(seed))
        arrays = names_and_leaves(model)
        np.savez(tmp_path / "w.npz", **{k: np.array(x) for k, x in arrays.items()})

    save(0)
    config = small_config(**{"model.weights": str(tmp_path / "w.npz")})
    first = train.run(config, tmp_path / "run", QUIET)
    (tmp_path / "w.npz").rename(tmp_path / "moved.npz")
    moved = small_config(**{"model.weights": str(tmp_path / "moved.npz")})
    assert train.run(moved, tmp_path / "run", QUIET) == first
    noted = (tmp_path / "run/config.json").read_text()
    assert "moved" not in noted
    save(1)
    with pytest.raises(records.RecordError, match=r"another content of model.weights"):
        train.run(config, tmp_path / "run", QUIET)
    assert (tmp_path / "run/config.json").read_text() == noted


def test_only_a_finished_run_may_have_other_workers(tmp_path, monkeypatch):
    config = small_config(method="fine-tune")
    monkeypatch.setattr(train, "set_up", lambda _: pytest.fail("it began"))
    with pytest.raises(pytest.fail.Exception):
        train.run(config, tmp_path / "run", QUIET)
    (tmp_path / "run/checkpoints").mkdir()
    other = small_config(**{"method": "fine-tune", "data.workers": 2})
    with pytest.raises(records.RecordError, match=r"data.workers: 0 there, 2 now"):
        train.run(other, tmp_path / "run", QUIET)
    records.write(tmp_path / "run/metrics.json", {"status": "finished"})
    assert train.run(other, tmp_path / "run", QUIET) == {"status": "finished"}


def test_a_run_that_diverged_stays_so_when_it_goes_on(tmp_path):
    saved = Log(tmp_path, 0, None)
    assert not saved.diverged
    saved.step({"loss": jax.numpy.nan})
    saved.epoch(1, 1, 0.1)
    assert Log(tmp_path, 1, saved.saved()).diverged


def test_a_run_that_is_older_than_an_option_goes_on_with_its_default(tmp_path):
    config = small_config(method="fine-tune")
    first = train.run(config, tmp_path / "run", QUIET)
    old = records.read(tmp_path / "run/config.json")
    del old["data"]["own_classes"], old["clip_norm"]
    records.write(tmp_path / "run/config.json", old)
    assert train.run(config, tmp_path / "run", QUIET) == first
    with pytest.raises(records.RecordError, match=r"clip_norm: 0\.0 there, 1\.0 now"):
        train.run(
            small_config(method="fine-tune", clip_norm=1.0), tmp_path / "run", QUIET
        )


def test_radii_and_drifts_of_a_record_are_of_the_same_step(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.3])  # the first epoch is the best
    monkeypatch.setattr(train, "validate", lambda *_: next(scores))
    record = train.run(small_config(method="ftp", steps=9), tmp_path / "run", QUIET)
    assert record["selected"]["step"] == 3
    trace, path = record["trace"], "backbone/conv1/kernel"
    for quantity in ("radius", "drift", "bound"):
        at_selection = trace[quantity][path][trace["step"].index(3)]
        found = record["leaves"][path][quantity]
        assert found == pytest.approx(at_selection, rel=1e-3)
    assert trace["radius"][path][-1] > 1.5 * record["leaves"][path]["radius"]
