"""Timing of several trainings in turn, so that a noisy machine hurts all alike."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from benchmarks.contenders import Batch, Params, Step

Pair = tuple[Batch, Batch]  # to train on, and held out


class Training:
    """One method's training on one model, which goes on from block to block."""

    def __init__(self, step: Step, params: Params, state: Any, batches: Sequence[Pair]):
        """Takes its params and state over: they are donated.

        Args:
          step: compiled.
          params: to start from.
          state: of the method.
          batches: on the device, taken in turn.
        """
        self._step = step
        self._carry = params, state
        self._batches = batches
        self._steps_done = 0
        self.loss = float("nan")

    def run(self, steps: int) -> float:
        """Trains on, and returns the seconds per step."""
        params, state = self._carry
        value = None
        began = time.perf_counter()
        for i in range(self._steps_done, self._steps_done + steps):
            batch, held_out = self._batches[i % len(self._batches)]
            params, state, value = self._step(params, state, batch, held_out)
        jax.block_until_ready((params, state, value))
        seconds = time.perf_counter() - began
        self._carry = params, state
        self._steps_done += steps
        if value is not None:
            self.loss = float(value)
        return seconds / steps


def interleaved(
    trainings: Mapping[str, Training],
    rounds: int,
    steps: int,
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda *_: None,
) -> Iterator[dict[str, float]]:
    """Gives every training one block per round, in an order drawn anew each time.

    Args:
      trainings: by name; each has had its warm-up.
      rounds: how many.
      steps: of each block.
      seed: of the orders.
      advance: told the name of each block and its steps.

    Yields:
      Seconds per step by name, once for each finished round.
    """
    draw = random.Random(seed)
    for _ in range(rounds):
        seconds = {}
        for name in draw.sample(list(trainings), len(trainings)):
            seconds[name] = trainings[name].run(steps)
            advance(name, steps)
        yield {name: seconds[name] for name in trainings}
