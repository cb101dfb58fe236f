r"""Your own images: fine-tune on one folder, test on others.

python -m experiments.train --out=runs/mine \
  --config=experiments/configs/image_folder.py:sketch,night \
  --config.io.source_dir=MY_IMAGES --config.io.weights=RESNET18.npz

MY_IMAGES holds a folder for each split and in it one for each class: train/cat/1.jpg,
val/cat/2.jpg, test/cat/3.jpg, and sketch/cat/4.jpg, night/cat/5.jpg for the domains
that the configuration is given by name, as many as you like. `train` is fine-tuned on,
`val` selects, `test` is in-distribution, all others are OOD. A number to reach: more
than a linear probe (--config.method.name=linear-probe) has on `test`, and no less on
the others.

The study, six settings each, then three seeds of the best; the number to reach is the
same:

python -m experiments.sweep --out=runs/mine \
  --config=experiments/configs/image_folder.py:study:sketch,night \
  --config.run.io.source_dir=MY_IMAGES --config.run.io.weights=RESNET18.npz

Other methods take part with --config.methods="('linear-probe','l2-sp','tpgm','ftp')".
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict
from experiments.configs.pacs import SETTINGS
from experiments.configs.studies import study

ID = "test"
METHODS = ("linear-probe", "fine-tune", "wise-ft", "ftp")


def get_config(part: str = "") -> Config:
    """ResNet-18 trunk at 96 pixels from a probed head, batch norm's statistics frozen.

    Args:
      part: names of the folders with other domains, separated by commas; with "study:"
        before them, or "study" alone, for the study.
    """
    kind, _, ood = part.partition(":")
    if kind != "study":
        kind, ood = "", part
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
    config.evaluation.tests = ConfigDict({n: f"image_folder:{n}" for n in (ID, *names)})
    config.evaluation.id = ID
    config.data.image_size = (96, 96)
    config.model.start = "probed head"
    config.recipe.freeze_statistics = True  # no method would hold them
    if not kind:
        return config
    config = study(config, SETTINGS)
    config.methods = METHODS  # others have settings, too
    return config
