"""Small runs on mocked images, the same in the tests' process and in a child's."""

from rich.console import Console

from experiments.configs import base

QUIET = Console(quiet=True)
IMAGES = 24  # that a mocked data set has


def small_config(**changes):
    """Two steps of the smallest network on mocked CIFAR-10; `changes` by full name."""
    config = base.get_config()
    config.name = "mocked"
    config.data.train, config.data.validation = "cifar10:train", "cifar10:test"
    config.data.tests = {"id": "cifar10:test", "ood": "cifar10:train"}
    config.data.image_size = (16, 16)
    config.model.name = "small"
    config.batch_size, config.evaluation_batch_size = 8, 16
    config.steps, config.observe_every, config.save_every = 2, 1, 100
    config.update_from_flattened_dict(changes)
    return config
