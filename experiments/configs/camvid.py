r"""CamVid: fine-tune on clean street scenes, test on corrupted ones.

python -m experiments.train --config=experiments/configs/camvid.py \
  --config.data.source_dir=CAMVID --config.model.weights=RESNET18.npz --out=runs/camvid
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict

# Of the paper's PASCAL-Context.
CORRUPTIONS = ("fog", "defocus_blur", "gaussian_noise", "brightness")


def get_config() -> Config:
    """ResNet-18 trunk with a 1 x 1 convolution as its head."""
    config = base.get_config()
    config.name = "camvid"
    config.data.train = "camvid:train"
    config.data.validation = "camvid:val"
    config.data.tests = ConfigDict({"clean": "camvid:test"})
    config.data.id = "clean"
    config.data.corruptions = CORRUPTIONS
    config.data.image_size = (120, 160)
    config.data.scale = (0.5, 1.0)
    config.batch_size = 8
    config.evaluation_batch_size = 32
    config.epochs = 8
    return config
