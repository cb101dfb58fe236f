r"""Your own images with masks: fine-tune on clean ones, test on corrupted ones.

python -m experiments.train --config=experiments/configs/mask_folder.py \
  --config.io.source_dir=CLOTHING --config.io.weights=RESNET18.npz --out=runs/clothing

The study, six settings of each method, then three seeds of the best:

python -m experiments.sweep --config=experiments/configs/mask_folder.py:study \
  --config.run.io.source_dir=CLOTHING --config.run.io.weights=RESNET18.npz \
  --out=runs/clothing-study

CLOTHING holds img/*.jpg, one more folder of masks with the same names, and classes.txt.
Ours were the 1,004 street photographs of Clothing Co-Parsing (Yang, Luo and Lin 2014)
at 240 x 160 pixels, a stand-in for the paper's human parts: the 59 tags in eight
groups, background, hair and hat, skin, upper body, dress, lower body, shoes,
accessories. The number to reach is that of the linear probe which it begins with, mean
IoU of the clean test images / under the four corruptions at severity 3: 0.37 / 0.21.
"""

from experiments.configs import camvid
from experiments.configs.base import Config, ConfigDict
from experiments.configs.studies import study

METHODS = ("linear-probe", "fine-tune", "wise-ft", "ftp")


def get_config(part: str = "") -> Config:
    """As CamVid's: ResNet-18 trunk with a 1 x 1 convolution as its head, probed.

    Args:
      part: "" for a run, or "study".
    """
    if part not in ("", "study"):
        raise ValueError(f"mask_folder.py: expected '' or 'study', got {part!r}.")
    config = camvid.get_config()
    config.name = "mask_folder"
    config.data.train = "mask_folder:train"
    config.data.validation = "mask_folder:val"
    config.evaluation.tests = ConfigDict({"clean": "mask_folder:test"})
    config.data.image_size = (240, 160)
    if not part:
        return config
    tune = {"evaluation": {"limit": 60, "severities": (3,)}}
    config = study(config, camvid.SETTINGS, tune=tune)
    config.methods = METHODS  # others have settings, too
    return config
