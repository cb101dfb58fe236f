r"""A study on your own images: six settings each, then three seeds of the best.

python -m experiments.sweep --out=runs/mine \
  --config=experiments/configs/image_folder_study.py:sketch,night \
  --config.run.data.source_dir=MY_IMAGES --config.run.model.weights=RESNET18.npz

MY_IMAGES is laid out as `image_folder.py` says. A number to reach: more than the linear
probe has on `test`, and no less on the others. Other methods take part with
--config.methods="('linear-probe','l2-sp','spd','tpgm','ftp')".
"""

from experiments.configs import image_folder
from experiments.configs.base import Config, ConfigDict
from experiments.configs.pacs_study import SETTINGS

METHODS = ("linear-probe", "fine-tune", "wise-ft", "ftp")


def get_config(ood: str = "") -> Config:
    """The probe, fine-tuning, its mixture with the start, and FTP, from a probed head.

    Args:
      ood: names of the folders with other domains, separated by commas.
    """
    config: Config = ConfigDict()
    config.run = image_folder.get_config(ood)
    config.methods = METHODS
    config.settings = ConfigDict(SETTINGS)
    config.tune_seeds = (0,)
    config.tune = ConfigDict()
    config.final_seeds = (0, 1, 2)
    config.final = ConfigDict()
    return config
