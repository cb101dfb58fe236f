"""What several tests of the experiments need."""

import pytest
import tensorflow_datasets as tfds

from mocked_runs import IMAGES


@pytest.fixture
def mocked_data():
    """Every TFDS name gives random images."""
    with tfds.testing.mock_data(num_examples=IMAGES):
        yield
