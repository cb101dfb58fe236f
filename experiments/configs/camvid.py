r"""CamVid: fine-tune on clean street scenes, test on corrupted ones.

python -m experiments.train --config=experiments/configs/camvid.py \
  --config.method.name=fine-tune --config.io.source_dir=CAMVID \
  --config.io.weights=RESNET18.npz --out=runs/camvid

Numbers to reach, mean IoU of the validation split / of 60 clean test images, one seed:
the probed head 0.43 / 0.37, fine-tuning from it 0.50 / 0.42, FTP at 3e-4 0.48 / 0.40;
fine-tuning from a new head at 3e-4 needs 12 epochs for 0.42 / 0.38. Four epochs take
less than two minutes on one core. The paper's data is PASCAL-Context; its settings are
not published, and these are ours.

The study, seven methods at six settings, then three seeds of the best, from a probed
head or with `camvid.py:study:new` from a zero one; the numbers to reach are in
docs/results/convolutional.md:

python -m experiments.sweep --config=experiments/configs/camvid.py:study \
  --config.run.io.source_dir=CAMVID --config.run.io.weights=RESNET18.npz \
  --out=runs/camvid-probed
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict
from experiments.configs.studies import pairs, study

# Of the paper's PASCAL-Context.
CORRUPTIONS = ("fog", "defocus_blur", "gaussian_noise", "brightness")
SETTINGS = {
    "fine-tune": pairs((1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3), (None,)),
    "ftp": pairs((3e-4, 1e-3), (0.0, 0.5, 1.0)),
    "linear-probe": pairs((None,), (1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1)),
    "wise-ft": pairs((3e-5, 1e-4, 3e-4), (0.5, 0.75)),
    "l2-sp": pairs((3e-5, 1e-4, 3e-4), (1e-2, 1e-1)),
    "spd": pairs((1e-4, 3e-4, 1e-3), (0.3, 1.0)),
    "tpgm": pairs((1e-4, 3e-4, 1e-3), (1e-2, 1e-1)),
}


def get_config(part: str = "") -> Config:
    """ResNet-18 trunk with a 1 x 1 convolution as its head.

    Args:
      part: "" for a run; "study" or "study:new".
    """
    if part not in ("", "study", "study:new"):
        raise ValueError(
            f"camvid.py: expected '', 'study' or 'study:new', got {part!r}."
        )
    config = base.get_config()
    config.name = "camvid"
    config.data.train = "camvid:train"
    config.data.validation = "camvid:val"
    config.evaluation.tests = ConfigDict({"clean": "camvid:test"})
    config.evaluation.id = "clean"
    config.evaluation.corruptions = CORRUPTIONS
    config.data.image_size = (120, 160)
    config.data.scale = (0.5, 1.0)
    config.model.start = "probed head"
    config.recipe.epochs = 4
    config.recipe.batch_size = 8
    config.evaluation.batch_size = 32
    config.method.learning_rate = 1e-4
    if not part:
        return config
    start = "new" if part.endswith(":new") else "probed"
    config.name = f"camvid resnet18-trunk {start}"
    config.model.start = f"{start} head"
    if start == "new":
        config.recipe.epochs = 12  # after 4 it knows the three largest classes alone
    # All severities of all test images, as at the end, take twenty times as long.
    tune = {"evaluation": {"limit": 60, "severities": (3,)}}
    return study(config, SETTINGS, tune=tune)
