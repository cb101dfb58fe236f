"""Small runs on mocked images, the same in the tests' process and in a child's."""

import os
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments import train
from experiments.configs import base
from experiments.progress import Display

QUIET = Display(Console(quiet=True))
IMAGES = 24  # that a mocked data set has


def small_config(**changes):
    """Two steps of the smallest network on mocked CIFAR-10.

    `changes` by full name, or by the last part of it where one group has it.
    """
    config = base.get_config()
    config.name = "mocked"
    config.data.train, config.data.validation = "cifar10:train", "cifar10:test"
    config.evaluation.tests = {"id": "cifar10:test", "ood": "cifar10:train"}
    config.data.image_size = (16, 16)
    config.model.name, config.io.weights = "small", "random"
    config.recipe.batch_size, config.evaluation.batch_size = 8, 16
    config.recipe.steps, config.evaluation.observe_every = 2, 1
    config.io.save_every = 100
    config.update_from_flattened_dict({full(k): v for k, v in changes.items()})
    return config


def full(name):
    """The name of an option with its group: `steps` is `recipe.steps`."""
    short = {"method": "method.name", "batch_size": "recipe.batch_size"}
    if name in base.OPTIONS or name in short:
        return short.get(name, name)
    found = [option for option in base.OPTIONS if option.endswith(f".{name}")]
    return found[0] if len(found) == 1 else name


def same(a, b):
    """Fails unless two records have the same figures, to the last bit."""
    for key in (
        *("history", "trace", "leaves", "evaluation"),
        *("id_val", "selected", "summary"),
    ):
        np.testing.assert_equal(a[key], b[key], err_msg=key)


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


def scalar_steps(folder, tag):
    """The steps that TensorBoard shows of a scalar."""
    events = []
    for file in folder.iterdir():
        content, place = file.read_bytes(), 0
        while place < len(content):  # a length, its checksum, an event, its checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = content[place + 12 : place + 12 + length]
            events.append(Event.FromString(event))
            place += length + 16
    steps = []
    for event in sorted(events, key=lambda event: event.wall_time):
        if event.session_log.status == SessionLog.START:
            steps = [step for step in steps if step < event.step]
        steps += [event.step for value in event.summary.value if value.tag == tag]
    return steps


def in_a_child(code, **environment):
    """Runs code in a process of its own, with what such tests import."""
    script = f"""
import os, pathlib, signal, sys
sys.path[:0] = {sys.path!r}
import jax
import tensorflow_datasets as tfds
from experiments import train
from experiments.progress import Display
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
