"""What every command is made of: its arguments, and its end said in a line."""

import argparse
import logging as standard_logging
import os
import pathlib
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from experiments.configs.base import OPTIONS, Config
from experiments.configs.values import SettingError, path, unknown
from experiments.data import DataError
from experiments.files import RecordError, in_words
from experiments.models.weights import WeightsError
from experiments.progress import Display, Interrupted, stop_at_once

# ---- A job that a configuration describes -----------------------------------------

# What a user can put right; the message says how.
REFUSALS = (DataError, WeightsError, SettingError, RecordError)

Job = Callable[[Config, pathlib.Path, Display], None]

# An option of a run, in the words of an error.
_OPTION = re.compile(
    rf"(?<![\w./-])({'|'.join(re.escape(name) for name in OPTIONS if '.' in name)})\b"
)


def launch(
    name: str,
    job: Job,
    description: str,
    own: Iterable[flags.FlagHolder] = (),
) -> None:
    """Parses the command line, runs the job, and ends the process.

    `own` are options that the job has beside those of all jobs.

    The exit status is 0; 2 if the command line, data, weights, configuration or folder
    are refused; and 128 + its number after a signal.
    """
    config = config_flags.DEFINE_config_file(
        "config", help_string="Configuration file; --config.<option>=<value> sets one."
    )
    flags.mark_flag_as_required(config.name)
    folder = flags.DEFINE_string("out", None, "Folder of the results.", required=True)

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
            config.value.to_dict()  # raises what kept the file from being loaded
        except Exception as error:  # a configuration file can raise anything
            sys.exit(refuse(name, misspelt(flags.FLAGS, argv) or reason(error)))
        return rest

    def main(argv: list[str]) -> int:
        if len(argv) > 1:
            unknown = " ".join(argv[1:])
            return refuse(name, f"unknown arguments: {unknown}. See --helpshort.")
        return ending(
            name,
            lambda: job(config.value, folder_of(folder.value), Display()),
            prefix="--config.run." if "run" in config.value else "--config.",
        )

    sys.modules["__main__"].__doc__ = description  # what --help shows first
    for option in (config, folder, *own):  # ... and these next
        flag = flags.FLAGS[option.name]
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(main, flags_parser=parse)


def ending(name: str, job: Callable[[], object], prefix: str = "") -> int:
    """Runs a job; returns the exit status, and says in a line why it is not 0.

    `prefix` makes an option of the configuration one of the command line.

    It is 2 if data, weights, configuration, folder or disk do not serve, and 128 + its
    number after a signal.
    """
    # Orbax tells of every file, and its tasks and other threads of failures beside the
    # one that is raised.
    logging.set_verbosity(logging.FATAL)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    beside: list[Any] = []
    again: list[threading.Timer] = []

    def dropped(raised: Any) -> None:
        if not isinstance(raised.exc_value, Interrupted):
            beside.append(raised)
            return
        # The signal came in a callback, of the garbage collector or a finalizer.
        signal = os.getpid(), raised.exc_value.number
        again.append(threading.Timer(0.1, os.kill, signal))
        again[-1].start()

    sys.unraisablehook, threading.excepthook = dropped, beside.append
    status = 0
    try:
        stop_at_once()
        job()
    except OSError as error:
        return refuse(name, in_words(error))
    except REFUSALS as error:
        status = refuse(
            name, _OPTION.sub(lambda option: prefix + option[0], str(error))
        )
    except Interrupted as interrupted:
        print(f"{interrupted} The same command goes on.", file=sys.stderr)
        status = interrupted.status
    finally:
        for timer in again:
            timer.cancel()
    sys.unraisablehook = sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    for raised in beside:
        traceback.print_exception(raised.exc_value)
    return status


def refuse(name: str, why: object) -> int:
    """Says why a job ends, and returns the exit status."""
    print(f"{name}: {why}", file=sys.stderr)
    return 2


def folder_of(text: str) -> pathlib.Path:
    """A folder for results, which need not be there yet."""
    path("--out", text)
    out = pathlib.Path(text).expanduser()  # no shell does it after --out=
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out: expected a folder, or none yet; {out} is a file.")
    return out


def misspelt(values: flags.FlagValues, argv: Sequence[str]) -> str:
    """In one line, the first `--config.<option>` that there is none of; "" if all are.

    Args:
      values: with the flag `config`.
      argv: the command line.
    """
    every = [re.match(r"--?config(?:\.(?P<option>[^=]+))?(?:=(.*))?$", x) for x in argv]
    given = [match.groups() for match in every if match]
    try:
        file = next(value for option, value in given if not option)
        config: Any = values["config"].parser.parse(file)
        run = "run." if "run" in config else ""
    except Exception:  # there is no configuration, and `reason` says why
        return ""
    names = [f"--config.{run}{name}" for name in OPTIONS]
    names += [f"--config.{name}" for name in config if run]
    for option in filter(None, (option for option, _ in given)):
        if run and option.startswith("settings.") and "-" in option:
            method = option.partition(".")[2]
            return f"--config.{option}: give --settings={method}=RATE:STRENGTH,..."
        try:
            config_path.get_value(option, config)
        except (KeyError, AttributeError):
            return str(unknown(f"--config.{option}", names))
    return ""


def reason(error: Exception) -> str:
    """In one line, why the command line cannot be parsed, and what would be right."""
    cause: Any = error
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    text = str(cause.args[0] if len(cause.args) == 1 else cause)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, flags.Error) and "Traceback" not in text:
        return f"{' '.join(lines).rstrip('.')}. See --helpshort."
    if isinstance(error, KeyError | AttributeError) and "module" not in text:
        return f"the configuration has no option {'. '.join(lines)}"
    return f"--config: {lines[-1] if lines else type(error).__name__}"


class Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Keeps the layout of descriptions and shows every default."""
