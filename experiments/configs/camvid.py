r"""CamVid: fine-tune on clean street scenes, test on corrupted ones.

python -m experiments.train --config=experiments/configs/camvid.py \
  --config.method=fine-tune --config.data.source_dir=CAMVID \
  --config.model.weights=RESNET18.npz --out=runs/camvid

Numbers to reach, mean IoU of the validation split / of 60 clean test images, one seed:
the probed head 0.43 / 0.37, fine-tuning from it 0.50 / 0.42, FTP at 3e-4 0.48 / 0.40;
fine-tuning from a new head at 3e-4 needs 12 epochs for 0.42 / 0.38. Four epochs take
less than two minutes on one core. The paper's data is PASCAL-Context; its settings are
not published, and these are ours.
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
    config.start = "probed head"
    config.epochs = 4
    config.batch_size = 8
    config.evaluation_batch_size = 32
    config.learning_rate = 1e-4
    return config
