"""Jobs that go on from what a kill before any change of a file would leave.

`EXHAUSTIVE=1 pytest tests/experiments/test_kills.py`: before every change in turn.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parents[1]
# Before every how manieth change of each.
NTH = {"training": 250, "sweep": 500, "quickstart": 900, "preparation": 1, "report": 4}
EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Each job in a process of its own, all at once."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("what copies is written in C, and there is no compiler `cc`")
    folder = tmp_path_factory.mktemp("jobs")
    shim = folder / "killed_jobs.so"
    command = [compiler, "-shared", "-fPIC", "-o", shim, HERE / "killed_jobs.c", "-ldl"]
    subprocess.run(command, check=True)
    paths = os.pathsep.join(map(str, (HERE.parent, HERE)))
    started = {}
    for job, nth in NTH.items():
        (folder / job).mkdir()
        number = "1" if EXHAUSTIVE else str(nth)
        said = folder / f"{job}.jsonl"
        with said.open("w") as lines, (folder / f"{job}.err").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "killed_jobs", job, folder / job, number],
                env=os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": paths},
                stdout=lines,
                stderr=errors,
            )
        started[job] = process, said
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("job", NTH)
def test_the_same_command_ends_with_the_same_figures_wherever_it_was_killed(job, jobs):
    process, said = jobs[job]
    assert process.wait() == 0
    whole, *failed, end = map(json.loads, said.read_text().splitlines())
    assert whole["status"] == 0
    assert failed == []
    assert end["starts"] > 0
