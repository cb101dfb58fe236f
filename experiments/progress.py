"""A progress bar on a terminal, a few plain lines anywhere else."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[str, int], None]  # what is running, steps done since the last call


class ImageRate(ProgressColumn):
    """Images per second, over the last half minute."""

    def __init__(self, images: int):
        super().__init__()
        self._images = images

    def render(self, task: Task) -> Text:
        if task.speed is None:
            return Text("")
        return Text(f"{task.speed * self._images:.0f} images/s")


@contextlib.contextmanager
def progress(
    console: Console, total: int, done: int = 0, images: int = 0
) -> Iterator[Advance]:
    """Shows how far `total` steps have come, `done` of them by an earlier start.

    `images` is how many a step takes, to show their rate; 0 shows none.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<30}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            *([ImageRate(images)] if images else []),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=total, completed=done)

            def advance(running: str, steps: int) -> None:
                bar.update(task, description=running, advance=steps)

            yield advance
        return

    shown = done * 10 // total

    def advance_plainly(running: str, steps: int) -> None:
        nonlocal done, shown
        done += steps
        if done * 10 // total > shown:
            shown = done * 10 // total
            console.print(f"{done:>7,} of {total:,} steps; now {running}")

    yield advance_plainly
