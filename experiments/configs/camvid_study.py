r"""The study on CamVid: seven methods, six settings each, then three seeds of the best.

python -m experiments.sweep --config=experiments/configs/camvid_study.py:probed \
  --config.run.data.source_dir=CAMVID --config.run.model.weights=RESNET18.npz \
  --out=runs/camvid-probed

The numbers to reach are in docs/results/index.md.
"""

from experiments.configs import camvid
from experiments.configs.base import Config, ConfigDict
from experiments.configs.pacs_study import pairs

SETTINGS = {
    "fine-tune": pairs((1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3), (None,)),
    "ftp": pairs((3e-4, 1e-3), (0.0, 0.5, 1.0)),
    "linear-probe": pairs((None,), (1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1)),
    "wise-ft": pairs((3e-5, 1e-4, 3e-4), (0.5, 0.75)),
    "l2-sp": pairs((3e-5, 1e-4, 3e-4), (1e-2, 1e-1)),
    "spd": pairs((1e-4, 3e-4, 1e-3), (0.3, 1.0)),
    "tpgm": pairs((1e-4, 3e-4, 1e-3), (1e-2, 1e-1)),
}


def get_config(start: str = "probed") -> Config:
    """One part of the study.

    Args:
      start: "probed" (logistic regression) or "new" (a zero head).
    """
    if start not in ("new", "probed"):
        raise ValueError(f"camvid_study.py: expected 'probed' or 'new', got {start!r}.")
    config: Config = ConfigDict()
    config.run = camvid.get_config()
    config.run.name = f"camvid resnet18-trunk {start}"
    config.run.start = f"{start} head"
    if start == "new":
        config.run.epochs = 12  # after 4 it knows the three largest classes alone
    config.methods = tuple(SETTINGS)
    config.settings = ConfigDict(SETTINGS)
    config.tune_seeds = (0,)
    # All severities of all test images, as at the end, take twenty times as long.
    config.tune = ConfigDict({"data": {"limit": 60, "severities": (3,)}})
    config.final_seeds = (0, 1, 2)
    config.final = ConfigDict()
    return config
