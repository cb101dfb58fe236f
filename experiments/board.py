"""What TensorBoard shows of a run."""

import pathlib
import time
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

events: Any = event_pb2  # its names are made when it is imported


class Board:
    """A file of scalars, written by who adds them.

    A `SummaryWriter` has a thread for that: when a full disk ends it, whoever adds the
    next scalars waits for ever.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        """A new file; what earlier ones hold after `step` steps is hidden."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._events = RecordWriter(
            str(folder / f"events.out.tfevents.{time.time():.6f}")
        )
        self._write(0, file_version="brain.Event:2")
        begins = events.SessionLog(status=events.SessionLog.START)
        self._write(step + 1 if step else 0, session_log=begins)

    def add(self, name: str, value: Any, step: int) -> None:
        """Adds a number."""
        self._write(step, summary=scalar(name, value))

    def _write(self, step: int, **content: Any) -> None:
        event = events.Event(step=step, wall_time=time.time(), **content)
        self._events.write(event.SerializeToString())

    def flush(self) -> None:
        """Puts on disk what was added."""
        self._events.flush()

    def close(self) -> None:
        try:
            self._events.close()
        except OSError as error:
            raise OSError(f"{self._folder} cannot be written: {error}") from error
