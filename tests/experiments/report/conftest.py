"""A report on a small sweep, made once."""

import pytest

from run_records import write_sweep


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A folder with `runs/`, five methods, and `report/`, what was made of them."""
    for package in ("jinja2", "matplotlib", "scipy"):
        pytest.importorskip(package, reason="needs the extra `experiments`")
    from experiments.report.command_line import main

    folder = tmp_path_factory.mktemp("swept")
    methods = ("fine-tune", "linear-probe", "wise-ft", "tpgm", "ftp")
    write_sweep(folder / "runs", methods, corruptions=True)
    assert main([str(folder / "runs"), "--out", str(folder / "report")]) == 0
    return folder
