r"""The study on PACS: every method, six settings each, then three seeds of the best.

python -m experiments.sweep --out=runs/pacs-resnet18-trunk-new \
  --config=experiments/configs/pacs_study.py:resnet18-trunk,new \
  --config.run.data.source_dir=PACS --config.run.model.weights=RESNET18.npz

Numbers to reach, ID / OOD accuracy in %: FTP 88.3 / 23.3, fine-tuning 82.0 / 22.1, a
linear probe 92.0 / 30.5. Those of the other parts are in docs/results/index.md.
"""

from experiments.configs import pacs
from experiments.configs.base import Config, ConfigDict

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def pairs(rates: tuple, strengths: tuple) -> tuple:
    """Every learning rate with every strength."""
    return tuple((rate, strength) for strength in strengths for rate in rates)


SETTINGS = {
    "fine-tune": pairs(RATES, (None,)),
    "ftp": pairs((3e-4, 1e-3), (0.0, 0.5, 1.0)),
    "linear-probe": pairs((None,), (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)),
    "wise-ft": pairs((1e-4, 3e-4, 1e-3), (0.5, 0.75)),
    "l2-sp": pairs((1e-4, 3e-4, 1e-3), (1e-2, 1e-1)),
    "spd": pairs((1e-4, 3e-4, 1e-3), (0.3, 1.0)),
    "tpgm": pairs((3e-4, 1e-3, 3e-3), (1e-2, 1e-1)),
    "lp-ft": pairs(RATES, (None,)),
    "mars-pgm": pairs((3e-4, 1e-3, 3e-3), (0.3, 3.0)),
    "mars-sp": pairs((1e-4, 3e-4, 1e-3), (1e-3, 1e-2)),
    "partial": pairs(RATES, (None,)),
}
METHODS_ON = {
    "resnet18-trunk": tuple(SETTINGS),
    "mobilenet-v1": (
        "fine-tune",
        "ftp",
        "linear-probe",
        "wise-ft",
        "l2-sp",
        "spd",
        "tpgm",
    ),
}


def get_config(variant: str = "resnet18-trunk,new") -> Config:
    """One part of the study.

    Args:
      variant: "<model>,<start>"; the model "resnet18-trunk" or "mobilenet-v1", the
        start "new" (a zero head) or "probed" (logistic regression).
    """
    model, _, start = variant.partition(",")
    if model not in METHODS_ON or start not in ("new", "probed"):
        raise ValueError(
            f"pacs_study.py: expected '<model>,<start>' of the models"
            f" {', '.join(METHODS_ON)} and the starts new, probed; got {variant!r}."
        )
    methods = list(METHODS_ON[model])
    if start == "probed":  # then LP-FT is fine-tuning
        methods = [method for method in methods if method != "lp-ft"]
    config: Config = ConfigDict()
    config.run = pacs.get_config()
    config.run.name = f"pacs {model} {start}"
    config.run.model.name = model
    config.run.start = f"{start} head"
    config.methods = tuple(methods)
    config.settings = ConfigDict({method: SETTINGS[method] for method in methods})
    config.tune_seeds = (0,)
    config.tune = ConfigDict({"data": {"limit": 1000}})
    config.final_seeds = (0, 1, 2)
    config.final = ConfigDict({"data": {"image_size": (96, 96)}})
    return config
