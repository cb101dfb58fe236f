"""What a run says of itself while it trains."""

import io
import re
import time

import jax
import pytest
from rich.console import Console

from experiments import train
from experiments.progress import Display
from experiments.run_folder import Log
from experiments.tasks.classification import TASK
from mocked_runs import QUIET, scalar_steps, small_config

pytestmark = pytest.mark.usefixtures("mocked_data")


def test_tensorboard_can_show_loss_accuracy_radii_and_drifts(tmp_path):
    train.run(small_config(method="ftp"), tmp_path / "run", QUIET)
    (events,) = (tmp_path / "run/tensorboard").iterdir()
    content = events.read_bytes()
    for tag in ("train/loss", "train/accuracy", "validation/id"):
        assert tag.encode() in content
    for quantity in ("radius", "drift", "bound"):
        assert f"{quantity}/backbone/conv1/kernel".encode() in content


def test_a_terminal_shows_images_per_second_and_the_time_left():
    console = Console(force_terminal=True, width=80, file=io.StringIO())
    display = Display(console)
    with display.bar(2, unit="runs") as runs:
        runs("ftp-lr0.001", 1)
        with display.bar(4, images=8) as steps:
            for _ in range(4):
                steps("epoch 1", 1)
                time.sleep(0.1)
    text = re.sub(r"\x1b\[[\d;?]*\w", "", console.file.getvalue())
    rates = [int(rate) for rate in re.findall(r"(\d+) images/s", text)]
    assert 10 < max(rates) <= 100  # 8 images every 0.1 s, at most
    for words in ("4/4 steps", "1/2 runs", "left", "ftp-lr0.001"):
        assert words in text


def test_a_stage_is_named_where_nothing_is_counted(tmp_path):
    for terminal in (True, False):
        console = Console(force_terminal=terminal, width=80, file=io.StringIO())
        display = Display(console)
        with display.stage("loading"), display.stage("inner"):
            pass
        with display.bar(3, unit="runs") as runs, display.stage("probing"):
            runs("mars-sp-lr0.001-lambda0.001-seed0", 1)
        text = re.sub(r"\x1b\[[\d;?]*\w", "", console.file.getvalue())
        assert "loading" in text
        assert "inner" not in text
        assert ("probing" in text) == terminal  # a file hears of the outermost alone
        assert max(map(len, re.split(r"[\r\n]", text))) <= 80


def test_what_is_left_of_long_runs_is_told_by_all_of_them(monkeypatch):
    console = Console(force_terminal=True, width=80, file=io.StringIO())
    display, now = Display(console), [0.0]
    display._bars.get_time = lambda: now[0]
    with display.bar(12, done=2, unit="runs") as runs:
        for _ in range(2):
            now[0] += 600.0  # rich forgets what is older than half a minute
            runs("ftp-lr0.001-kappa1-seed0", 1)
    text = re.sub(r"\x1b\[[\d;?]*\w", "", console.file.getvalue())
    assert "4/12 runs 1:20:00 left" in " ".join(text.split())


def test_a_file_is_told_every_tenth_of_the_outermost_job():
    console = Console(width=80, file=io.StringIO())
    display = Display(console)
    with display.bar(40, done=10, unit="runs") as runs:
        for run in range(11, 26):
            with display.bar(100) as steps:
                steps("epoch 1", 100)
            runs(f"run {run}", 1)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r" +12 of 40 runs, [\d:]+ left; now run 12", lines[0])


def test_a_run_that_diverged_stays_so_when_it_goes_on(tmp_path):
    saved = Log(tmp_path, 0, None)
    assert not saved.diverged
    saved.step({"loss": jax.numpy.nan})
    saved.validated(TASK.metric, 1, 1, 0.1)
    saved.close()
    again = Log(tmp_path, 1, saved.saved())
    again.close()
    assert again.diverged


def test_tensorboard_hides_what_was_logged_after_the_last_checkpoint(tmp_path):
    # A first start, one that goes on after two steps, and one from the beginning.
    for step, known in ((0, [1, 2, 3]), (2, [1, 2, 3, 4, 5]), (0, [1, 2, 3])):
        log = Log(tmp_path, step, None)
        for later in (1, 2, 3):
            log.observe(step + later, {"loss": 1.0}, {})
        log.close()
        assert scalar_steps(tmp_path / "tensorboard", "train/loss") == known
