"""What is an optimizer's update, and what does it cost to compile and run?"""

import functools
import time
from typing import Any

import jax
import optax

from benchmarks import cost
from benchmarks.cost import Cost
from benchmarks.timing import Repeated


def jitted(tx: optax.GradientTransformation) -> Any:
    """`(params, state, grads) -> (params, state)`, donated and returned in order."""
    tx = optax.with_extra_args_support(tx)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


class Update(Repeated):
    """One optimizer's update of a tree, compiled; the gradients stay the same."""

    def __init__(self, tx: optax.GradientTransformation, params: Any, grads: Any):
        """Takes the params over: they are donated."""
        state = tx.init(params)
        self._jitted = jitted(tx)
        self.shapes = jax.tree.map(_described, (params, state, grads))
        self.compiled = self._jitted.lower(*self.shapes).compile()
        self.cost: Cost = cost.of_step(self.compiled, params, state)
        super().__init__(lambda p, s: self._jitted(p, s, grads), params, state)

    @property
    def compilations(self) -> int:
        """How many programs the steps so far have needed."""
        return self._jitted._cache_size()


class Compiling:
    """Compiles one update anew in each step."""

    def __init__(self, tx: optax.GradientTransformation, shapes: Any):
        """Remembers what to compile, for arguments like `shapes`."""
        self._tx, self._shapes = tx, shapes

    def run(self, steps: int) -> float:
        """Seconds to trace, lower and compile once, with nothing left from before."""
        seconds = 0.0
        for _ in range(steps):
            jax.clear_caches()
            step = jitted(self._tx)
            began = time.perf_counter()
            step.lower(*self._shapes).compile()
            seconds += time.perf_counter() - began
        return seconds / steps


class Copying(Repeated):
    """An elementwise pass over one large array: what the memory gives at best."""

    def __init__(self, num_bytes: int):
        array = jax.numpy.zeros(num_bytes // 4, jax.numpy.float32)
        self.num_bytes = 2 * array.nbytes  # read and written
        self._jitted = jax.jit(lambda x: (x + 1.0,), donate_argnums=0)
        super().__init__(self._jitted, array)


def _described(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    # A leaf that may go wherever the others are must stay so; one in host memory not.
    free = not leaf.committed and cost.on_device(leaf)
    sharding = None if free else leaf.sharding
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type
    )
