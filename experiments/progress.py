"""How far a job has come, shown while it runs; and an end when it is told to."""

import contextlib
import datetime
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

# ---- Interruption -----------------------------------------------------------------


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """A run was told to stop, and can go on from what it has saved.

    Attributes:
      number: of the signal.
      status: the exit status that a shell expects, 128 + the number.
    """

    def __init__(self, number: int, how: str = "saved"):
        super().__init__(f"{signal.Signals(number).name}: {how}.")
        self.number, self.status = number, 128 + number


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


def left(done: int, total: int, seconds: float) -> str:
    """How long the rest takes if it goes on as `done` units in so many seconds.

    >>> left(2, 10, 60.0), left(0, 10, 60.0)
    ('0:04:00 left', '')
    """
    rest = datetime.timedelta(seconds=round((total - done) * seconds / max(done, 1)))
    return f"{rest} left" if done else ""


class TimeLeft(ProgressColumn):
    """Of all since this start: a run may take minutes, and rich looks back half one."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.elapsed is None:
            return Text("")
        first = task.fields["first"]
        done, total = round(task.completed) - first, round(task.total) - first
        return Text(left(done, total, task.elapsed))


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
        self._running = 0  # bars
        self._staged = False
        self._bars = Progress(
            TextColumn("{task.description:<24.24}"),
            BarColumn(10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeLeft(),
            ImageRate(),
            console=self._console,
        )

    def print(self, *lines: Any) -> None:
        """Prints texts as they are, and tables."""
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Says what goes on where nothing is counted; stages in it are not told.

        A file is told of those of the outermost job.
        """
        if self._staged:
            yield
            return
        with contextlib.ExitStack() as ending:
            self._staged = True
            ending.callback(setattr, self, "_staged", False)
            if not self._running and self._console.is_terminal:
                ending.enter_context(self._console.status(name))
            elif not self._running:
                self.print(f"{name} ...")
            elif self._console.is_terminal:
                task = self._bars.add_task(name, total=None, first=0, unit="", images=0)
                ending.callback(self._bars.remove_task, task)
                self._bars.refresh()
            yield

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
            "", total=total, completed=done, first=done, unit=unit, images=images
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
                rest = left(done - first, total - first, time.monotonic() - began)
                self.print(f"{done:>7,} of {total:,} {unit}, {rest}; now {running}")

        return advance
