"""Processes with simulated devices, started when a test first asks for one."""

import pytest

from devices import simulated


@pytest.fixture(scope="session")
def eight():
    """Calls a function where there are eight devices."""
    with simulated.devices(8) as call:
        yield call


@pytest.fixture(scope="session")
def four():
    """Calls a function where there are four devices."""
    with simulated.devices(4) as call:
        yield call


@pytest.fixture(scope="session")
def one():
    """Calls a function where there is one device."""
    with simulated.devices(1) as call:
        yield call
