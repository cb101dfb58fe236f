"""A report on a small sweep, made once."""

import itertools

import pytest

from experiments import studies
from experiments.report.__main__ import main
from run_records import record

STRENGTHS = {"fine-tune": (None,), "wise-ft": (0.5,), "tpgm": (0.1,), "ftp": (0.0, 1.0)}


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A folder with `study.jsonl`, five methods, and `report/`, what was made of it."""
    folder = tmp_path_factory.mktemp("swept")
    runs = [
        record("linear-probe", None, 1.0, seed, corruptions=True) for seed in (0, 1)
    ]
    for method, strengths in STRENGTHS.items():
        for setting in itertools.product((1e-4, 1e-3), strengths, (0, 1)):
            runs.append(record(method, *setting, corruptions=True))
    for i, found in enumerate(runs):
        studies.append(folder / studies.FILE, found, "tune", f"run{i}")
    assert main([str(folder)]) == 0
    return folder
