r"""FTP on PACS at every learning rate and kappa, beside fine-tuning; and its variants.

python -m experiments.sweep --out=runs/pacs-kappa-probed \
  --config=experiments/configs/pacs_kappa.py:resnet18-trunk,probed \
  --config.run.data.source_dir=PACS --config.run.model.weights=RESNET18.npz

Numbers to reach, ID / OOD accuracy in %, at 1e-3: fine-tuning 58.8 / 15.7, FTP with
kappa 0 94.0 / 30.0, with kappa 1 87.6 / 30.2. All are in docs/results/choosing.md.
"""

from experiments.configs import pacs_study
from experiments.configs.base import Config, ConfigDict
from experiments.configs.pacs_study import RATES, SETTINGS, pairs

VARIANTS: tuple[str, ...] = ("ftp-active", "ftp-wide", "ftp-fast", "ftp-smooth")
KAPPAS = (0.0, 0.5, 1.0)
AT = ((1e-3, 1.0), (1e-3, 0.5))  # where the variants are tried


def get_config(part: str = "resnet18-trunk,probed") -> Config:
    """What the choice of kappa and the learning rate does; the chosen do not run again.

    Args:
      part: "<model>,<start>" for FTP; "<model>,<start>,variants" for its variants,
        remedies for radii that stay small.
    """
    base = part.removesuffix(",variants")
    config = pacs_study.get_config(base)
    settings = {"fine-tune": SETTINGS["fine-tune"], "ftp": pairs(RATES, KAPPAS)}
    if part != base:
        settings = dict.fromkeys(VARIANTS, AT)
    config.methods = tuple(settings)
    config.settings = ConfigDict(settings)
    config.final_seeds = ()
    return config
