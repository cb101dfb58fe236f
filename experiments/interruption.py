"""Lets a run put its work away before it ends when it is told to."""

import signal
import threading
from types import FrameType
from typing import Any

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
