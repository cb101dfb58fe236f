r"""Your own images: fine-tune on one folder, test on others.

python -m experiments.train --out=runs/mine \
  --config=experiments/configs/image_folder.py:sketch,night \
  --config.data.source_dir=MY_IMAGES --config.model.weights=RESNET18.npz

MY_IMAGES holds a folder for each split and in it one for each class: train/cat/1.jpg,
val/cat/2.jpg, test/cat/3.jpg, and sketch/cat/4.jpg, night/cat/5.jpg for the domains
that the configuration is given by name, as many as you like. `train` is fine-tuned on,
`val` selects, `test` is in-distribution, all others are OOD. A number to reach: more
than a linear probe (--config.method=linear-probe) has on `test`, and no less on the
others.
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict

ID = "test"


def get_config(ood: str = "") -> Config:
    """ResNet-18 trunk at 96 pixels from a probed head, batch norm's statistics frozen.

    Args:
      ood: names of the folders with other domains, separated by commas.
    """
    names = [name.strip() for name in ood.split(",") if name.strip()]
    if taken := {"train", "val", ID} & {*names}:
        raise ValueError(
            f"image_folder.py: {', '.join(sorted(taken))} cannot be OOD; name other"
            " folders, such as image_folder.py:sketch,night."
        )
    config = base.get_config()
    config.name = "image_folder"
    config.data.train = "image_folder:train"
    config.data.validation = "image_folder:val"
    config.data.tests = ConfigDict({n: f"image_folder:{n}" for n in (ID, *names)})
    config.data.id = ID
    config.data.image_size = (96, 96)
    config.start = "probed head"
    config.freeze_statistics = True  # no method would hold them
    return config
