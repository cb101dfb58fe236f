"""Timing of several things in turn, so that a noisy machine hurts all alike."""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax

from benchmarks.contenders import Batch, Params, Step

Pair = tuple[Batch, Batch]  # to train on, and held out


class Runs(Protocol):
    """What can be timed: it runs some steps and tells the seconds per step."""

    def run(self, steps: int) -> float: ...


class Repeated:
    """A step that goes on from what it returned, from block to block."""

    def __init__(self, step: Callable[..., tuple[Any, ...]], *carry: Any):
        """Takes the first carry over: it may be donated.

        Args:
          step: maps a carry, in several arguments, to the next one, a tuple of as many.
          carry: of the first step.
        """
        self._step = step
        self.carry = carry

    def run(self, steps: int) -> float:
        """Takes steps, waits for the results, and returns the seconds per step."""
        carry = self.carry
        began = time.perf_counter()
        for _ in range(steps):
            carry = self._step(*carry)
        jax.block_until_ready(carry)
        seconds = time.perf_counter() - began
        self.carry = carry
        return seconds / steps


class Training(Repeated):
    """One method's training on one model, which goes on from block to block."""

    def __init__(self, step: Step, params: Params, state: Any, batches: Sequence[Pair]):
        """Takes its params and state over: they are donated.

        Args:
          step: compiled.
          params: to start from.
          state: of the method.
          batches: on the device, taken in turn.
        """
        turn = itertools.cycle(batches)

        def next_step(params: Params, state: Any, _: Any) -> tuple[Any, ...]:
            return step(params, state, *next(turn))

        super().__init__(next_step, params, state, float("nan"))

    @property
    def loss(self) -> float:
        """Of the last step; nan before the first."""
        return float(self.carry[2])


def interleaved(
    contenders: Mapping[str, Runs],
    rounds: int,
    steps: int | Mapping[str, int],
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda *_: None,
) -> Iterator[dict[str, float]]:
    """Gives every contender one block per round, in an order drawn anew each time.

    Args:
      contenders: by name; each has had its warm-up.
      rounds: how many.
      steps: of each block, the same for all or by name.
      seed: of the orders.
      advance: told the name of each block and its steps.

    Yields:
      Seconds per step by name, once for each finished round.
    """
    draw = random.Random(seed)
    for _ in range(rounds):
        seconds = {}
        for name in draw.sample(list(contenders), len(contenders)):
            block = steps if isinstance(steps, int) else steps[name]
            seconds[name] = contenders[name].run(block)
            advance(name, block)
        yield {name: seconds[name] for name in contenders}
