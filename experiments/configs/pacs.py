r"""PACS: fine-tune on photographs, test on art, cartoons and sketches.

python -m experiments.train --config=experiments/configs/pacs.py \
  --config.data.source_dir=PACS --config.model.weights=RESNET18.npz --out=runs/ftp

Numbers to reach, ID / OOD accuracy in %, one seed, at most 1,000 test images a domain:
FTP 86.8 / 28.3, fine-tuning at 3e-4 81.6 / 27.0, a linear probe 88.4 / 30.2.
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict


def get_config() -> Config:
    """ResNet-18 trunk, 64 pixels, AdamW."""
    config = base.get_config()
    config.name = "pacs"
    config.data.train = "pacs:photo_train"
    config.data.validation = "pacs:photo_val"
    config.data.tests = ConfigDict(
        {
            "photo": "pacs:photo_test",
            "art_painting": "pacs:art_painting",
            "cartoon": "pacs:cartoon",
            "sketch": "pacs:sketch",
        }
    )
    config.data.id = "photo"
    return config
