"""What every command is made of: arguments, progress, and an end when it is told to."""

import argparse
import contextlib
import datetime
import logging as standard_logging
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from experiments.configs.base import Config
from experiments.configs.values import SettingError, path
from experiments.data import DataError
from experiments.files import RecordError, in_words
from experiments.models.weights import WeightsError

# ---- A job that a configuration describes -----------------------------------------

# What a user can put right; the message says how.
REFUSALS = (DataError, WeightsError, SettingError, RecordError)

Job = Callable[[Config, pathlib.Path, "Display"], None]


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
            sys.exit(refuse(name, reason(error)))
        return rest

    def main(argv: list[str]) -> int:
        if len(argv) > 1:
            unknown = " ".join(argv[1:])
            return refuse(name, f"unknown arguments: {unknown}. See --helpshort.")
        return ending(
            name, lambda: job(config.value, folder_of(folder.value), Display())
        )

    sys.modules["__main__"].__doc__ = description  # what --help shows first
    for option in (config, folder, *own):  # ... and these next
        flag = flags.FLAGS[option.name]
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(main, flags_parser=parse)


def ending(name: str, job: Callable[[], object]) -> int:
    """Runs a job; returns the exit status, and says in a line why it is not 0.

    It is 2 if data, weights, configuration, folder or disk do not serve, and 128 + its
    number after a signal.
    """
    # Orbax tells of every file, and its tasks and other threads of failures beside the
    # one that is raised.
    logging.set_verbosity(logging.FATAL)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    beside: list[Any] = []
    sys.unraisablehook = threading.excepthook = beside.append
    status = 0
    try:
        stop_at_once()
        job()
    except OSError as error:
        return refuse(name, in_words(error))
    except REFUSALS as error:
        status = refuse(name, error)
    except Interrupted as interrupted:
        print(f"{interrupted} The same command goes on.", file=sys.stderr)
        status = interrupted.status
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
    out = pathlib.Path(text)
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out: expected a folder, or none yet; {out} is a file.")
    return out


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


# ---- Interruption -----------------------------------------------------------------


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """A run was told to stop, and can go on from what it has saved.

    Attributes:
      status: the exit status that a shell expects, 128 + the signal's number.
    """

    def __init__(self, number: int, how: str = "saved"):
        super().__init__(f"{signal.Signals(number).name}: {how}.")
        self.status = 128 + number


def stop_at_once() -> None:
    """Lets the signals raise an `Interrupted` wherever the process is.

    That is right where nothing is lost, and all that training has to lose it puts away
    under an `Interruption`.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(number, "stopped")

    for number in SIGNALS:
        signal.signal(number, stop)


class Interruption:
    """Notes SIGTERM and Ctrl-C instead of dying of them; a second one is not held up.

    Attributes:
      number: of the signal that arrived, or `None`.
    """

    def __init__(self):
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        signal.signal(number, self._before[number])


# ---- Progress ---------------------------------------------------------------------


Advance = Callable[[str, int], None]  # what is running, how much since the last call


class ImageRate(ProgressColumn):
    """Images per second, over the last half minute, of what takes images."""

    def render(self, task: Task) -> Text:
        if task.speed is None or not task.fields["images"]:
            return Text("")
        return Text(f"{task.speed * task.fields['images']:.0f} images/s")


class Display:
    """Prints, and shows below that how far what is running has come.

    On a terminal there is a bar for each job, those of its parts below its own;
    elsewhere a line at every tenth of the outermost.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console()
        self._running = 0
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            ImageRate(),
            console=self._console,
        )

    def print(self, *lines: Any) -> None:
        """Prints texts as they are, and tables."""
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(
        self, total: int, done: int = 0, *, unit: str = "steps", images: int = 0
    ) -> Iterator[Advance]:
        """Shows how far `total` units have come, `done` of them by an earlier start.

        `images` is how many a unit takes, to show their rate; 0 shows none.
        """
        self._running += 1
        try:
            if self._console.is_terminal:
                yield from self._drawn(total, done, unit, images)
            elif self._running == 1:
                yield self._printed(total, done, unit)
            else:
                yield lambda running, count: None
        finally:
            self._running -= 1

    def _drawn(
        self, total: int, done: int, unit: str, images: int
    ) -> Iterator[Advance]:
        if self._running == 1:
            for ended in self._bars.task_ids:
                self._bars.remove_task(ended)
            self._bars.start()
        task = self._bars.add_task(
            "", total=total, completed=done, unit=unit, images=images
        )
        try:
            yield lambda running, count: self._bars.update(
                task, description=running, advance=count
            )
        finally:
            if self._running > 1:
                self._bars.refresh()  # its end is seen, however short it was
                self._bars.remove_task(task)
            else:  # it stays to be read
                self._bars.stop()

    def _printed(self, total: int, done: int, unit: str) -> Advance:
        first, tenths, began = done, done * 10 // total, time.monotonic()

        def advance(running: str, count: int) -> None:
            nonlocal done, tenths
            done += count
            if done * 10 // total > tenths:
                tenths = done * 10 // total
                rate = (time.monotonic() - began) / max(done - first, 1)
                left = datetime.timedelta(seconds=round((total - done) * rate))
                self.print(
                    f"{done:>7,} of {total:,} {unit}, {left} left; now {running}"
                )

        return advance


class Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Keeps the layout of descriptions and shows every default."""
