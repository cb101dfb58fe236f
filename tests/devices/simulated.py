"""FTP on many devices: what the tests of this folder share.

A process has as many CPU devices as it was told before jax woke up, and the process of
the tests has one. So the devices are simulated in a process of their own, which lives
as long as the tests do.

Parameters and radii have to equal those of one device to 1e-5 after 50 steps, or
after 12 with options that are not the default.
"""

import contextlib
import faulthandler
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import jax

# After so many seconds a call is taken to hang, and its process ends.
PATIENCE = 600


@contextlib.contextmanager
def devices(count):
    """A function that calls another one where there are `count` CPU devices."""
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(count,),
    ) as process:
        yield lambda function, *args: process.submit(_call, function, args).result()


def _start(count):
    jax.config.update("jax_num_cpu_devices", count)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # Programs that run for a moment; it changes none of their collectives.
    jax.config.update("jax_disable_most_optimizations", True)


def _call(function, args):
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return function(*args)
    finally:
        faulthandler.cancel_dump_traceback_later()
