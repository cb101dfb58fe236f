"""The command line: what is refused is said in a line, with the exit status 2."""

import os
import re
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments.configs.values import SettingError
from experiments.models.weights import WeightsError, located

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


def test_a_tilde_is_the_home_of_results_and_of_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.folder_of("~/run") == located("~/run") == tmp_path / "run"


def test_an_option_that_does_not_exist_is_named(tmp_path):
    done = command(PACS, "--config.method.nam=ftp", f"--out={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr == (
        "experiments.train: --config.method.nam: there is no such option. Did you mean"
        " --config.method.name?\n"
    )


# ml_collections loads a file by a method that is deprecated.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=experiments/configs/pacss.py"], r"--config: .*No such file.*pacss"),
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


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [PACS, "--config.recipe.stepz=3"],
            "stepz: there is no such option. Did you mean --config.recipe.steps?",
        ),
        ([PACS, "--config.steps=3"], "--config.recipe.steps?"),
        ([PACS, "--config.recpie.steps=3"], "--config.recipe.steps?"),
        ([PACS, "--config.run.recipe.steps=3"], "--config.recipe.steps?"),
        ([PACS, "--config.noflip"], "--config.data.flip?"),
        ([PACS, "--config.qwxz=3"], "qwxz: there is no such option."),
        ([f"{PACS}:study", "--config.recipe.steps=3"], "--config.run.recipe.steps?"),
        ([f"{PACS}:study", "--config.method=ftp"], "--config.methods?"),
        (
            [f"{PACS}:study", "--config.settings.fine-tune=((1,None),)"],
            "give --settings=fine-tune=RATE:STRENGTH,...",
        ),
        ([f"{PACS}:study", "--config.run.seed=3", "--config.seedz=3"], "run.seed?"),
        ([PACS, "--config.recipe.steps=3", "--config.data.flip"], ""),
        ([PACS, "--config.model.options={'epsilon': 1e-6}"], ""),
        ([f"{PACS}:study", "--config.settings.ftp=((1,None),)"], ""),
        (["--config=nowhere.py", "--config.stepz=3"], ""),
        (["--out=x"], ""),
    ],
)
def test_a_misspelt_option_is_told_with_the_nearest_that_there_is(arguments, said):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    told = cli.misspelt(values, ["train", *arguments])
    assert told.endswith(said)
    assert bool(told) == bool(said)


@pytest.mark.parametrize("refusal", [SettingError, WeightsError])
def test_an_option_that_a_refusal_names_is_that_of_the_command_line(refusal, capsys):
    def job():
        raise refusal("io.source_dir and data.train: not with a/io.weights.npz.")

    for prefix in ("", "--config.", "--config.run."):
        assert cli.ending("job", job, prefix) == 2
        assert capsys.readouterr().err == (
            f"job: {prefix}io.source_dir and {prefix}data.train: not with"
            " a/io.weights.npz.\n"
        )


def test_a_job_that_is_stopped_before_it_trains_says_so_in_a_line(tmp_path):
    job = """
import os, signal
from experiments.cli import launch
launch("job", lambda *_: os.kill(os.getpid(), signal.SIGTERM), "It stops.")
"""
    done = subprocess.run(
        [sys.executable, "-c", job, PACS, f"--out={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143
    assert done.stderr == "SIGTERM: stopped. The same command goes on.\n"


def test_a_folder_that_is_missing_is_one_line_and_status_2(tmp_path):
    done = command(
        PACS,
        "--config.io.weights=random",
        f"--out={tmp_path / 'run'}",
        data=tmp_path / "data",
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "experiments.train: pacs needs --config.io.source_dir, a folder"
    )
    assert done.stderr.count("\n") == 1
