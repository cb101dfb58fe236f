"""A report on a small sweep, made once."""

import pytest

from experiments import studies
from experiments.report.__main__ import main
from run_records import run_name, sweep_of


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A folder with `study.jsonl`, five methods, and `report/`, what was made of it."""
    folder = tmp_path_factory.mktemp("swept")
    methods = ("fine-tune", "linear-probe", "wise-ft", "tpgm", "ftp")
    for found in sweep_of(methods, corruptions=True):
        studies.append(folder / studies.FILE, found, "tune", run_name(found))
    assert main([str(folder)]) == 0
    return folder
