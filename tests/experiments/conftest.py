"""What several tests of the experiments need."""

import pytest
import tensorflow_datasets as tfds

from experiments.start import opened, probing, starting_point
from mocked_runs import IMAGES


@pytest.fixture
def mocked_data():
    """Every TFDS name gives random images; nothing of it stays for the next test."""
    with tfds.testing.mock_data(num_examples=IMAGES):
        yield
    for made_once in (opened, starting_point, probing):
        made_once.cache_clear()
