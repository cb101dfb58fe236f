"""Two processes train together, one is killed, and both go on from their checkpoint."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from devices import network
from devices.network import assert_equal

SCRIPT = pathlib.Path(__file__).with_name("two_processes.py")
PATIENCE = 240  # seconds for each of the two runs, on a busy machine


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def both(folder, logs, *arguments_of_the_second):
    """The two processes, neither of which survives the block."""
    port, started = free_port(), []
    try:
        for rank, extra in enumerate([(), arguments_of_the_second]):
            with (folder / f"{logs}-{rank}.log").open("wb") as log:
                command = [SCRIPT, rank, port, folder, *extra]
                process = subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            started.append(process)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def logged(folder):
    return "\n".join(log.read_text() for log in sorted(folder.glob("*.log")))


def wait_for(processes, folder):
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end after {PATIENCE} s\n{logged(folder)}")


def test_two_processes_resume_after_a_kill_and_equal_one_process(tmp_path):
    with both(tmp_path, "killed", "--die-at", "30") as (_, second):
        wait_for([second], tmp_path)
        assert second.returncode == -signal.SIGKILL, logged(tmp_path)
    assert "from step 0" in logged(tmp_path)
    assert not (tmp_path / "result.npz").exists()
    with both(tmp_path, "resumed") as processes:
        wait_for(processes, tmp_path)
        assert [p.returncode for p in processes] == [0, 0], logged(tmp_path)
    assert logged(tmp_path).count("from step 25") == 2
    with np.load(tmp_path / "result.npz") as file:
        assert_equal(dict(file), network.expected())
