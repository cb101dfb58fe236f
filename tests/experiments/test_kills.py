"""Jobs that are killed at any change of a file, and started again.

`EXHAUSTIVE=1 pytest tests/experiments/test_kills.py` kills before every change in turn.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parents[1]
# How many kills of each, evenly spread.
KILLS = {"training": 3, "sweep": 2, "quickstart": 1, "preparation": 5, "report": 6}
EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Each job in a process that kills its starts, all at once."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("what kills is written in C, and there is no compiler `cc`")
    folder = tmp_path_factory.mktemp("jobs")
    shim = folder / "kill_at.so"
    command = [compiler, "-shared", "-fPIC", "-o", shim, HERE / "kill_at.c", "-ldl"]
    subprocess.run(command, check=True)
    paths = os.pathsep.join(map(str, (HERE.parent, HERE)))
    started = {}
    for job, kills in KILLS.items():
        (folder / job).mkdir()
        number = "0" if EXHAUSTIVE else str(kills)
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


@pytest.mark.parametrize("job", KILLS)
def test_the_same_command_ends_with_the_same_figures_wherever_it_was_killed(job, jobs):
    process, said = jobs[job]
    assert process.wait() == 0
    whole, *failed, end = map(json.loads, said.read_text().splitlines())
    assert whole["status"] == 0
    assert failed == []
    assert end["kills"] > 0  # a start may make fewer changes than the one counted
