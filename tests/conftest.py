"""Settings under which every test runs."""

import pathlib

import jax
import pytest

# What was compiled once is read the next time. Processes that the tests start do not
# use it: XLA's CPU back end aborts where it reads programs for several devices.
jax.config.update(
    "jax_compilation_cache_dir",
    str(pathlib.Path(__file__).parents[1] / ".cache" / "compiled"),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

# A silent broadcast between ranks is how a row norm would meet the wrong axis.
jax.config.update("jax_numpy_rank_promotion", "raise")


# What comparisons with torch need; they skip themselves where it is not.
collect_ignore = ["clip_reference.py", "torch_parity.py"]


@pytest.fixture
def x64():
    """Float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield
