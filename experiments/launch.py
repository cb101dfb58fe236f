"""The command line of a job that a configuration describes."""

import pathlib
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from experiments.configs.base import Config
from experiments.datasets.errors import DataError
from experiments.interruption import Interrupted
from experiments.models.weights import WeightsError
from experiments.records import RecordError
from experiments.settings import SettingError

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Configuration file; --config.<option>=<value> sets one."
)
_OUT = flags.DEFINE_string("out", None, "Folder of the results.", required=True)

# What a user can put right; the message says how.
REFUSALS = (DataError, WeightsError, SettingError, RecordError)

Job = Callable[[Config, pathlib.Path, Console], None]


def launch(name: str, job: Job, description: str) -> None:
    """Parses the command line, runs the job, and ends the process.

    The exit status is 0; 2 if data, weights, configuration or folder are refused; and
    128 + its number after a signal.
    """

    def main(argv: list[str]) -> int:
        if len(argv) > 1:
            raise app.UsageError(f"unknown arguments: {argv[1:]}")
        logging.set_verbosity(logging.WARNING)  # orbax tells of every file
        try:
            job(_CONFIG.value, pathlib.Path(_OUT.value), Console())
        except REFUSALS as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except Interrupted as interrupted:
            print(f"{interrupted} The same command goes on.", file=sys.stderr)
            return interrupted.status
        return 0

    sys.modules["__main__"].__doc__ = description  # what --help shows first
    for option in (_CONFIG.name, _OUT.name):  # ... and these next
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[option])
    app.run(main)
