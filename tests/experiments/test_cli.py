"""The command line: what is refused is said in a line, with the exit status 2."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from drawn_images import draw_pacs
from experiments import cli

PACS = "--config=experiments/configs/pacs.py"
STUDY = "--config=experiments/configs/camvid.py"


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
    done = command(PACS, "--config.method.nam=ftp", f"--out={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr == (
        "experiments.train: the configuration has no option 'nam'. Did you mean"
        ' "name" instead of "nam"?\n'
    )


# ml_collections loads a file by a method that is deprecated.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=experiments/configs/pacss.py"], r"--config: .*No such file.*pacss"),
        ([PACS, "--config.data.nam=1"], "has no option 'nam'"),
        ([PACS, "--config.seed=one"], "--config.seed=one: invalid .* --helpshort"),
        ([PACS, "--confg=x"], "Unknown command line flag 'confg'.*Did you mean"),
        ([f"{STUDY}:x"], "--config: ValueError: camvid.py: expected ''"),
        ([], "--config=None: .* must have a value"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_one_line(
    arguments, message, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    flags.mark_flag_as_required("config", values)

    def parse():
        values(sys.argv)
        config.value.to_dict()

    with pytest.raises((flags.Error, AttributeError, OSError)) as refused:
        parse()
    said = cli.reason(refused.value)
    assert "\n" not in said
    assert re.search(message, said)


def test_results_are_not_written_into_a_file(tmp_path):
    (tmp_path / "run").touch()
    done = command(PACS, f"--out={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr == (
        f"experiments.train: --out: expected a folder, or none yet; {tmp_path / 'run'}"
        " is a file.\n"
    )


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_job_that_is_stopped_before_it_trains_says_so_in_a_line(
    name, status, tmp_path
):
    job = f"""
import os, signal
from experiments.cli import launch
launch("job", lambda *_: os.kill(os.getpid(), signal.{name}), "It stops.")
"""
    done = subprocess.run(
        [sys.executable, "-c", job, PACS, f"--out={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stderr == f"{name}: stopped. The same command goes on.\n"


def test_a_folder_that_is_missing_is_one_line_and_status_2(tmp_path):
    done = command(
        PACS,
        "--config.io.weights=random",
        f"--out={tmp_path / 'run'}",
        data=tmp_path / "data",
    )
    assert done.returncode == 2
    assert done.stderr.startswith("experiments.train: pacs needs source_dir, ")
    assert done.stderr.count("\n") == 1


def test_weights_of_another_architecture_are_refused_after_preparing(tmp_path):
    draw_pacs(tmp_path / "pacs", per_class=7)
    np.savez(tmp_path / "w.npz", **{"dense.kernel": np.zeros((2, 2))})
    done = command(
        PACS,
        f"--config.io.source_dir={tmp_path / 'pacs'}",
        f"--config.io.weights={tmp_path / 'w.npz'}",
        "--config.recipe.batch_size=8",
        f"--out={tmp_path / 'run'}",
        data=tmp_path / "data",
    )
    assert done.returncode == 2
    assert "dense.kernel" in done.stderr
    assert "w.npz" in done.stderr
