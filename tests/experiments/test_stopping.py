"""Every way to stop a run, and what it has come to when it goes on."""

import gc
import os
import signal
import sys
import threading
import time

import jax
import numpy as np
import pytest

from experiments import records, train
from experiments.cli import ending
from experiments.evaluation import Evaluator
from experiments.progress import SIGNALS, Interrupted, stop_at_once
from mocked_runs import QUIET, in_a_child, same, scalar_steps, small_config, stop_at

pytestmark = pytest.mark.usefixtures("mocked_data")


@pytest.mark.parametrize("method", ["ftp", "tpgm"])
def test_a_run_that_is_told_to_stop_goes_on_with_the_same_numbers(
    method, tmp_path, monkeypatch
):
    config = small_config(method=method, steps=7)
    whole = train.run(config, tmp_path / "whole", QUIET)
    taken = stop_at(monkeypatch, 4)
    with pytest.raises(Interrupted) as interrupted:
        train.run(config, tmp_path / "parts", QUIET)
    assert interrupted.value.status == 143
    assert len(taken) == 4
    assert not (tmp_path / "parts/metrics.json").exists()
    same(whole, train.run(config, tmp_path / "parts", QUIET))
    assert len(taken) == 7
    told = scalar_steps(tmp_path / "parts/tensorboard", "train/loss")
    assert told == [*range(1, 8)]


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


@pytest.fixture
def at_once():
    """Signals raise, as in a process that `launch` has started."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop_at_once()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_is_stopped_while_it_is_measured_does_not_train_again(
    number, tmp_path, monkeypatch
):
    config = small_config(method="ftp", steps=4)
    whole = train.run(config, tmp_path / "whole", QUIET)
    with monkeypatch.context() as patched:
        patched.setattr(train, "measure", lambda *_: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as interrupted:
            train.run(config, tmp_path / "parts", QUIET)
    assert interrupted.value.status == 128 + number
    assert not (tmp_path / "parts/metrics.json").exists()
    again = lambda *_: pytest.fail("it trained again")
    monkeypatch.setattr(train, "next_batches", again)
    same(whole, train.run(config, tmp_path / "parts", QUIET))
    assert not (tmp_path / "parts/checkpoints").exists()


@pytest.mark.usefixtures("at_once")
def test_a_stop_that_falls_into_a_callback_is_not_lost(capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def callback(*_):
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGTERM)

    def job():
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(60)

    assert ending("job", job) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert said == "SIGTERM: stopped. The same command goes on.\n"


@pytest.mark.parametrize("stopped", [False, True])
def test_the_parameters_that_validation_chose_are_those_of_the_record(
    stopped, tmp_path, monkeypatch
):
    seen, scores = [], iter([0.5, 0.4, 0.3])  # the first epoch is the best

    def validate(evaluator, model):
        del evaluator
        seen.append(jax.device_get(model[0]))
        return next(scores, 0.5)

    monkeypatch.setattr(Evaluator, "validate", validate)
    config = small_config(method="fine-tune", steps=9)
    if stopped:
        stop_at(monkeypatch, 5)
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "run", QUIET)
    assert train.run(config, tmp_path / "run", QUIET)["selected"]["step"] == 3
    start = train.set_up(config).start
    found, _ = records.load_selected(tmp_path / "run", (start.params, start.statistics))
    jax.tree.map(np.testing.assert_array_equal, found, seen[0])
    assert (found["head"]["kernel"] != seen[2]["head"]["kernel"]).any()
