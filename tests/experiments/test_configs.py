"""Every configuration loads, and every command line that one opens with is right."""

import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from benchmarks import show
from experiments import configs, continual, plan, quickstart, sweep, train
from experiments.configs.base import check
from experiments.configs.pacs import VARIANTS
from experiments.data.corruptions import CORRUPTIONS
from experiments.methods import METHODS
from experiments.models import MODELS
from experiments.report import __main__ as report

FOLDER = pathlib.Path(next(iter(configs.__path__)))
ROOT = FOLDER.parents[1]
NO_EXPERIMENTS = ("__init__", "base", "studies", "values")
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in NO_EXPERIMENTS)
# What each can be given after its name; "" for nothing.
PARTS = {
    "digits": ("", "pretrain"),
    "domainnet": ("clip", "moco,low_label", "clip,low_label", "moco,tfds"),
    "image_folder": ("", "sketch,night"),
    "pascal_context": ("semseg", "parts", "normals"),
}
STUDIES = [
    ("digits", "study"),
    ("image_folder", "study"),
    ("image_folder", "study:sketch,night"),
    ("pacs", "study"),
    ("pacs", "study:resnet18-trunk,probed"),
    ("pacs", "study:mobilenet-v1,new"),
    ("pacs", "study:mobilenet-v1,probed"),
    ("camvid", "study"),
    ("camvid", "study:new"),
    ("mask_folder", "study"),
    ("office_caltech", "study"),
    ("office_caltech", "study:webcam,0.1"),
]
SEQUENCES = [
    ("continual", "pacs"),
    ("continual", "office"),
    ("imagenet_r_continual", ""),
]
SWEEPS = [
    *STUDIES,
    ("digits", "radii"),
    ("pacs", "kappa:resnet18-trunk,probed"),
    ("pacs", "kappa:resnet18-trunk,new,variants"),
]
LOADED = [
    (name, part)
    for name in NAMES
    for part in PARTS.get(name, ("",))
    if "continual" not in name  # studies of sequences
]
SETTINGS = 6  # of each method, in every study


def module(name):
    return importlib.import_module(f"experiments.configs.{name}")


def load(name, part=""):
    return module(name).get_config(*([part] if part else []))


def checked(config):
    """The check of a run whose paths a user has given."""
    config.io.weights = config.io.weights or "weights.npz"
    config.io.source_dir = "images"
    check(config, METHODS, MODELS)
    assert set(config.evaluation.corruptions) <= set(CORRUPTIONS)
    assert len(config.data.image_size) == 2


@pytest.mark.parametrize(("name", "part"), LOADED)
def test_every_configuration_can_be_run_with_every_method(name, part):
    config = load(name, part)
    for method in METHODS:
        config.method.name, config.method.strength = method, None
        checked(config)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("pacs", "study:mobilenet-v1"),
        ("pacs", "study:resnet18-trunk,old"),
        ("pacs", "kappa:resnet18-trunk,new,foo"),
        ("camvid", "study:old"),
        ("domainnet", "clip,moco"),
        *(
            (name, "tenth")
            for name in (
                *("continual", "camvid", "digits", "domainnet", "mask_folder", "pacs"),
                "pascal_context",
            )
        ),
    ],
)
def test_a_part_that_there_is_not_is_refused(name, part):
    with pytest.raises(ValueError, match=rf"{name}.py: expected .*; got|, got '"):
        load(name, part)


@pytest.mark.parametrize(("name", "part"), SWEEPS)
def test_every_run_of_a_sweep_can_be_run(name, part, tmp_path):
    config = load(name, part)
    for planned in plan.planned("tune", plan.settings(config), (0,)):
        checked(plan.configured(config, planned, tmp_path))
        strength = METHODS[planned.method].strength
        assert (strength is None) == (planned.setting.strength is None)


@pytest.mark.parametrize(("name", "part"), SEQUENCES)
def test_every_sequence_can_be_run(name, part, tmp_path):
    config = load(name, part)
    for planned in plan.planned("tune", plan.settings(config), (0,)):
        run = plan.configured(config, planned, tmp_path)
        continual.check_sequence(run)
        del run.sequence
        checked(run)


@pytest.mark.parametrize(("name", "part"), STUDIES)
def test_every_method_of_a_study_has_the_same_number_of_settings(name, part):
    grid = plan.settings(load(name, part))
    assert {len(pairs) for pairs in grid.values()} == {SETTINGS}
    rates = {pair.learning_rate for pair in grid["fine-tune"]}
    mixed = {pair.learning_rate for pair in grid["wise-ft"]}
    assert mixed <= rates, "WiSE-FT mixes what fine-tuning has trained"


def test_the_digits_are_studied_with_every_method():
    variants = {*VARIANTS, "ftp-rate"}
    assert set(METHODS) - variants == set(load("digits", "study").methods)


def test_a_folder_that_is_in_distribution_cannot_be_ood():
    config = load("image_folder", "sketch, night")
    assert config.evaluation.tests.to_dict() == {
        name: f"image_folder:{name}" for name in ("test", "sketch", "night")
    }
    with pytest.raises(ValueError, match="val cannot be OOD"):
        load("image_folder", "sketch,val")


def commands(opened):
    """(job, arguments) of the command lines that a module opens with."""
    text = (opened.__doc__ or "").replace("\\\n", " ").replace("$seed", "0")
    found = re.findall(r"python -m (experiments\.\w+) (.+)", text)
    return [(job, shlex.split(line.partition(";")[0])) for job, line in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_opens_with_the_numbers_to_reach(name):
    assert re.search(r"\bnumbers?\s+to\s+reach\b", module(name).__doc__, re.I)


# ml_collections loads a file by a method that is deprecated.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_the_command_lines_of_a_docstring_parse(name, monkeypatch):
    found = commands(module(name))
    assert found
    for job, arguments in found:
        assert f"--config=experiments/configs/{name}.py" in " ".join(arguments)
        require_accepted(job, arguments, monkeypatch)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("job", [train, sweep, continual])
def test_the_command_line_that_a_job_opens_with_parses(job, monkeypatch):
    for named, arguments in commands(job):
        assert named in (job.__name__, "experiments.report")
        if named == job.__name__:
            require_accepted(named, arguments, monkeypatch)


def require_accepted(job, arguments, monkeypatch):
    """Fails unless the job, one with a configuration, takes these arguments."""
    assert job.removeprefix("experiments.") in ("train", "sweep", "continual")
    monkeypatch.chdir(ROOT)
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "", flag_values=values, required=True)
    config_flags.DEFINE_config_file("config", flag_values=values)
    part = [] if job == "experiments.train" else sweep.part_options(values)
    monkeypatch.setattr(sys, "argv", [job, *arguments])  # what it reads itself
    assert values(sys.argv) == [job]
    config = values["config"].value
    if part:
        plan.settings(plan.narrowed(config, *(option.value for option in part)))
    assert ("run" in config) == (job != "experiments.train")


# Says what it was called with, a command a line, instead of running it.
SHELL = """
pip() { :; }
pytest() { :; }
python() { printf '%s\\t' "$@"; echo; }
"""
MADE = ("_build", "studies")  # folders that building the documentation leaves
PAGES = [
    *(ROOT / name for name in ("README.md", "experiments/README.md")),
    *(p for p in ROOT.glob("docs/**/*.md") if not {*MADE} & {*p.parts}),
]


def shell_code(page):
    """What a page would have one type: indented lines, and cells of a tutorial."""
    text = page.read_text("utf-8")
    cells = re.findall(r"^%%bash\n(.*?)^```", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines()
    indented = [line[4:] for line in prose if line.startswith("    ")]
    return "\n".join([*cells, *indented])


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_command_lines_of_the_pages_parse(monkeypatch, tmp_path):
    found = []
    for page in PAGES:
        called = subprocess.run(
            ["bash", "-euc", SHELL + shell_code(page)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        lines = [line for line in called.stdout.splitlines() if line[:2] == "-m"]
        found += [line.split("\t")[:-1] for line in lines]
    (tmp_path / "FTP").mkdir()  # a clone of the published code
    jobs = {job for _, job, *_ in found}
    assert len(found) >= 40
    assert {"experiments.train", "experiments.report", "benchmarks.update"} <= jobs
    for _, job, *arguments in found:
        if job.startswith("benchmarks."):
            monkeypatch.chdir(tmp_path)
            show.parse(*importlib.import_module(job).main.args[:4], arguments)
        elif job == "experiments.report":
            report.parse(arguments)
        elif job == "experiments.quickstart":
            quickstart.parse([x for x in arguments if x != "--help"])
        else:
            require_accepted(job, arguments, monkeypatch)
