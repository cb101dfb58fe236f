r"""One task after the other, small: PACS by domain, Office-Caltech by class.

python -m experiments.continual --config=experiments/configs/continual.py:pacs \
  --config.run.io.source_dir=PACS --config.run.io.weights=VIT_TINY.npz \
  --out=runs/pacs-continual

python -m experiments.continual --config=experiments/configs/continual.py:office \
  --config.run.io.source_dir=OFFICE --config.run.io.weights=VIT_TINY.npz \
  --out=runs/office-continual

Numbers to reach on PACS, mean accuracy over the four domains after the last: FTP 81.1,
fine-tuning 71.0; on Office-Caltech over its ten classes: FTP 72.8, fine-tuning
72.3 (docs/results/continual.md).

FTP and its relatives take a new anchor for every task; with
--config.run.sequence.new_anchor=False they keep the pre-trained one, and their radii go
on. ViT-Tiny at 96 pixels, AdamW, 30 steps a task with a cosine of its own; three
settings of each method (five on Office-Caltech), then three seeds of the best.
VIT_TINY.npz: timm's vit_tiny_patch16_224.augreg_in21k_ft_in1k. OFFICE holds
`<domain>/<class>/*.jpg` of the ten classes that Office-31 and Caltech-256 share (Gong
et al. 2012), all domains together here: 70 % train, 15 % select, 15 % test.
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict
from experiments.configs.office_caltech import DOMAINS as OFFICE
from experiments.configs.studies import pairs, sequence, study

RATES = (3e-5, 1e-4, 3e-4)
LOW = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)  # two classes a task are soon all that is known
SETTINGS = {
    "pacs": {
        "fine-tune": pairs(RATES, (None,)),
        "l2-sp": pairs(RATES, (1e-1,)),
        "wise-ft": pairs((1e-4, 3e-4, 1e-3), (0.5,)),
        "spd": pairs(RATES, (0.5,)),
        "ftp": pairs((1e-3, 3e-3, 1e-2), (1.0,)),
        "ftp-fast": pairs((3e-4, 1e-3, 3e-3), (1.0,)),  # few steps for a radius
    },
    "office": {
        "fine-tune": pairs(LOW, (None,)),
        "l2-sp": pairs(LOW, (1e-1,)),
        "wise-ft": pairs((3e-6, 1e-5, 3e-5, 1e-4, 3e-4), (0.5,)),
        "spd": pairs(LOW, (0.5,)),
        "ftp": pairs((1e-4, 3e-4, 1e-3, 3e-3, 1e-2), (1.0,)),
    },
}
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")  # of PACS, in this order


def get_config(part: str = "pacs") -> Config:
    """The study of "pacs" or "office"."""
    if part not in SETTINGS:
        raise ValueError(f"continual.py: expected 'pacs' or 'office', got {part!r}.")
    config = base.get_config()
    config.name = f"continual {part}"
    config.data.image_size = (96, 96)
    config.model.name = "vit-tiny-16"
    config.model.options = ConfigDict({"epsilon": 1e-6})
    config.recipe.steps = 30
    config.evaluation.batch_size = 128
    config.evaluation.limit = 200
    if part == "pacs":
        config.data.train = "pacs:{domain}_train"
        config.data.validation = "pacs:{domain}_val"
        config.evaluation.tests = ConfigDict({"id": "pacs:{domain}_test"})
        return study(sequence(config, domains=DOMAINS), SETTINGS[part])
    config.data.train = _of_all_domains("[:70%]")
    config.data.validation = _of_all_domains("[70%:85%]")
    config.evaluation.tests = ConfigDict({"id": _of_all_domains("[85%:]")})
    return study(sequence(config, classes_per_task=2), SETTINGS[part])


def _of_all_domains(part: str) -> str:
    """TFDS adds slices of splits, and cannot slice their sum `all`."""
    return "image_folder:" + "+".join(f"{domain}{part}" for domain in OFFICE)
