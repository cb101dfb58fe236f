"""Settings under which every test runs."""

import jax
import pytest

# A silent broadcast between ranks is how a row norm would meet the wrong axis.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield
