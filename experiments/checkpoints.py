"""What a run in progress keeps on disk: all that it needs to go on exactly."""

import pathlib
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.records import RecordError


class Checkpoints:
    """The newest checkpoint of a run; an older one goes when a newer one is complete.

    A checkpoint holds the state, the best parameters so far, the log as JSON, and the
    position of each data iterator.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._manager = ocp.CheckpointManager(
            path.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1, enable_async_checkpointing=False
            ),
        )

    def save(
        self, step: int, arrays: Any, log: Mapping[str, Any], data: Mapping[str, Any]
    ) -> None:
        """Saves what a run is after `step` steps; returns when it is on disk."""
        if step in self._manager.all_steps():
            return
        iterators = {k: grain.checkpoint.CheckpointSave(v) for k, v in data.items()}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                log=ocp.args.JsonSave(dict(log)),
                **iterators,
            ),
        )

    def restore(
        self, like: Any, data: Mapping[str, Any]
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest checkpoint, if there is one; moves the iterators to where it was.

        Args:
          like: arrays of the same structure, shapes, dtypes and placement.
          data: the iterators, by the names they were saved under.

        Returns:
          How many steps were taken, the arrays, and the log.

        Raises:
          RecordError: what is there does not fit.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        iterators = {k: grain.checkpoint.CheckpointRestore(v) for k, v in data.items()}
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(like),
                    log=ocp.args.JsonRestore(),
                    **iterators,
                ),
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise RecordError(
                f"{self.path}: step {step} does not fit this model and method, or is"
                f" damaged ({error}). Remove the folder to start over."
            ) from error
        # Copied: new arrays, which no compiled step tells from those it made itself.
        arrays = jax.tree.map(
            lambda x, y: jax.device_put(np.array(x), y.sharding), found["arrays"], like
        )
        return step, arrays, found["log"]

    def close(self) -> None:
        self._manager.close()
