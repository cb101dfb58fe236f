"""The command line: what is refused is said in a line, with the exit status 2."""

import os
import subprocess
import sys

import numpy as np

from drawn_images import draw_pacs

PACS = "--config=experiments/configs/pacs.py"


def command(*arguments, data=None):
    environment = os.environ | {"TFDS_DATA_DIR": str(data or "/nowhere")}
    return subprocess.run(
        [sys.executable, "-m", "experiments.train", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_help_says_what_the_job_does_and_how_options_are_set():
    done = command("--helpshort")
    assert "python -m experiments.train --" in done.stdout
    assert "--config.<option>=<value>" in done.stdout
    assert "--out" in done.stdout


def test_an_option_that_does_not_exist_is_named(tmp_path):
    done = command(PACS, "--config.methd=ftp", f"--out={tmp_path / 'run'}")
    assert done.returncode != 0
    assert "methd" in done.stderr
    assert 'Did you mean "method"' in done.stderr


def test_a_folder_that_is_missing_is_one_line_and_status_2(tmp_path):
    done = command(PACS, f"--out={tmp_path / 'run'}", data=tmp_path / "data")
    assert done.returncode == 2
    assert done.stderr.startswith("experiments.train: pacs is not prepared in")
    assert done.stderr.count("\n") == 1


def test_weights_of_another_architecture_are_refused_after_preparing(tmp_path):
    draw_pacs(tmp_path / "pacs", per_class=7)
    np.savez(tmp_path / "w.npz", **{"dense.kernel": np.zeros((2, 2))})
    done = command(
        PACS,
        f"--config.data.source_dir={tmp_path / 'pacs'}",
        f"--config.model.weights={tmp_path / 'w.npz'}",
        "--config.batch_size=8",
        f"--out={tmp_path / 'run'}",
        data=tmp_path / "data",
    )
    assert done.returncode == 2
    assert "dense.kernel" in done.stderr
    assert "w.npz" in done.stderr
