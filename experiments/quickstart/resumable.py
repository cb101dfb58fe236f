"""The training loop in chunks, saved between them and resumed from the last save."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli import Advance
from experiments.data.digits import Split
from experiments.quickstart.network import Params
from experiments.quickstart.run_directory import RunDirectory, SaveTimer
from experiments.quickstart.training import Recipe, empty_trace, init_state, train_chunk

CHUNK = 50  # steps; a run is saved, and can be resumed, between chunks only
TRACE_EVERY = 10  # steps between two values of the trace that are noted


class Desk(NamedTuple):
    """Where runs are kept, and who is told how far they are."""

    out: RunDirectory
    timer: SaveTimer  # says when a checkpoint is due
    advance: Advance


def train(
    desk: Desk,
    name: str,
    recipe: Recipe,
    rate: float,
    start: Params,
    data: Split,
    order: np.ndarray,
    keep: bool = False,
) -> tuple[Params, dict[str, np.ndarray]]:
    """Trains one model, or goes on from where an earlier start was interrupted.

    Args:
      desk: see `Desk`.
      name: of the run.
      recipe: see `Recipe`.
      rate: learning rate.
      start: parameters; not donated.
      data: what `order` points into.
      order: `(steps, batch)`, indices.
      keep: save the last step too.

    Returns:
      The trained parameters, and the trace, `{name: (steps,)}`.
    """
    state = init_state(recipe, rate, start)
    trace = empty_trace(recipe, state)
    step = 0
    if found := desk.out.restore(name, {"state": state, "trace": trace}):
        step, saved = found
        # Copied as `init_state` does: new arrays, which no compiled step knows apart.
        state, trace = jax.tree.map(jnp.array, saved["state"]), saved["trace"]
        desk.advance(name, step)

    while step < len(order):
        chunk = order[step : step + CHUNK]
        state, new = train_chunk(recipe, rate, data, state, chunk)
        for key, values in new.items():
            trace[key][step : step + len(chunk)] = values
        step += len(chunk)
        if keep if step == len(order) else desk.timer.due():
            desk.out.save(name, step, {"state": state, "trace": trace})
        desk.advance(name, len(chunk))
    return state[0], trace


def thin(trace: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Every `TRACE_EVERY`-th value of a trace and the steps they belong to."""
    last = np.arange(len(trace["loss"]))[TRACE_EVERY - 1 :: TRACE_EVERY]
    thinned = {k: [float(f"{x:.5g}") for x in v[last]] for k, v in trace.items()}
    return {"step": (last + 1).tolist(), **thinned}
