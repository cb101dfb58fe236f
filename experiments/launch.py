"""The command line of a job that a configuration describes."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from experiments.configs.base import Config
from experiments.data import DataError
from experiments.interruption import Interrupted, stop_at_once
from experiments.models.weights import WeightsError
from experiments.records import RecordError
from experiments.settings import SettingError

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Configuration file; --config.<option>=<value> sets one."
)
flags.mark_flag_as_required(_CONFIG.name)
_OUT = flags.DEFINE_string("out", None, "Folder of the results.", required=True)

# What a user can put right; the message says how.
REFUSALS = (DataError, WeightsError, SettingError, RecordError)

Job = Callable[[Config, pathlib.Path, Console], None]


def launch(name: str, job: Job, description: str) -> None:
    """Parses the command line, runs the job, and ends the process.

    The exit status is 0; 2 if the command line, data, weights, configuration or folder
    are refused; and 128 + its number after a signal.
    """

    def refuse(reason: object) -> int:
        print(f"{name}: {reason}", file=sys.stderr)
        return 2

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
            _CONFIG.value.to_dict()  # raises what kept the file from being loaded
            return rest
        except (flags.Error, AttributeError, KeyError, OSError) as error:
            sys.exit(refuse(reason(error)))

    def main(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)  # orbax tells of every file
        out = pathlib.Path(_OUT.value)
        if len(argv) > 1:
            return refuse(f"unknown arguments: {' '.join(argv[1:])}. See --helpshort.")
        if out.exists() and not out.is_dir():
            return refuse(f"--out: expected a folder, or none yet; {out} is a file.")
        try:
            stop_at_once()
            job(_CONFIG.value, out, Console())
        except REFUSALS as error:
            return refuse(error)
        except Interrupted as interrupted:
            print(f"{interrupted} The same command goes on.", file=sys.stderr)
            return interrupted.status
        return 0

    sys.modules["__main__"].__doc__ = description  # what --help shows first
    for option in (_CONFIG.name, _OUT.name):  # ... and these next
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[option])
    app.run(main, flags_parser=parse)


def reason(error: Exception) -> str:
    """In one line, why the command line cannot be parsed, and what would be right."""
    cause: Any = error
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    text = str(cause.args[0] if len(cause.args) == 1 else cause)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, OSError) or "Traceback" in text:  # of the configuration file
        return f"--config: {lines[-1]}"
    if isinstance(error, flags.Error):
        return f"{' '.join(lines).rstrip('.')}. See --helpshort."
    return f"the configuration has no option {'. '.join(lines)}"
