"""Small runs on mocked images, the same in the tests' process and in a child's."""

import os
import signal
import subprocess
import sys
import textwrap

from rich.console import Console

from experiments import train
from experiments.configs import base

QUIET = Console(quiet=True)
IMAGES = 24  # that a mocked data set has


def small_config(**changes):
    """Two steps of the smallest network on mocked CIFAR-10; `changes` by full name."""
    config = base.get_config()
    config.name = "mocked"
    config.data.train, config.data.validation = "cifar10:train", "cifar10:test"
    config.data.tests = {"id": "cifar10:test", "ood": "cifar10:train"}
    config.data.image_size = (16, 16)
    config.model.name, config.model.weights = "small", "random"
    config.batch_size, config.evaluation_batch_size = 8, 16
    config.steps, config.observe_every, config.save_every = 2, 1, 100
    config.update_from_flattened_dict(changes)
    return config


def stop_at(monkeypatch, number, sent=signal.SIGTERM):
    """Sends a signal when that batch is drawn; returns a list as long as were drawn."""
    drawn, draw = [], train.next_batches

    def draw_and_stop(*args):
        drawn.append(None)
        if len(drawn) == number:
            os.kill(os.getpid(), sent)
        return draw(*args)

    monkeypatch.setattr(train, "next_batches", draw_and_stop)
    return drawn


def in_a_child(code, **environment):
    """Runs code in a process of its own, with what such tests import."""
    script = f"""
import os, pathlib, signal, sys
sys.path[:0] = {sys.path!r}
import jax
import tensorflow_datasets as tfds
from experiments import train
from mocked_runs import IMAGES, QUIET, small_config
with tfds.testing.mock_data(num_examples=IMAGES):
{textwrap.indent(textwrap.dedent(code), "    ")}
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
