r"""The study on the digits: every method, six settings each, on five pre-trainings.

for seed in 0 1 2 3 4; do python -m experiments.train --out=runs/digits-pretrain-$seed \
  --config=experiments/configs/digits.py:pretrain --config.seed=$seed; done
python -m experiments.sweep --config=experiments/configs/digits_study.py \
  --out=runs/digits-study

Every seed begins with its own pre-trained network, hence {seed} in the path of the
weights. The head comes with them and is held near its value like every layer.
Numbers to reach, ID / OOD accuracy in %: start 94.4 / 83.8, fine-tuning 97.3 / 80.5,
FTP 97.4 / 80.6, MARS-PGM 97.8 / 81.3. The others are in docs/results/index.md.
"""

from experiments.configs import digits
from experiments.configs.base import Config, ConfigDict
from experiments.configs.pacs_study import pairs

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HIGH = (1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2, 3, 4)

SETTINGS = {
    "fine-tune": pairs(RATES, (None,)),
    "ftp": pairs((1e-3, 1e-2), (0.0, 0.5, 1.0)),
    "linear-probe": pairs((None,), (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)),
    "wise-ft": pairs(HIGH, (0.5, 0.75)),
    "l2-sp": pairs(HIGH, (1e-2, 1e-1)),
    "spd": pairs(HIGH, (0.3, 1.0)),
    "tpgm": pairs(HIGH, (1e-2, 1e-1)),
    "lp-ft": pairs(RATES, (None,)),
    "mars-pgm": pairs(HIGH, (0.3, 1.0)),
    "mars-sp": pairs(HIGH, (1e-3, 1e-2)),
    "partial": pairs(RATES, (None,)),
}


def get_config() -> Config:
    """Every method; two seeds choose its setting, five measure it."""
    config: Config = ConfigDict()
    config.run = digits.get_config()
    config.run.model.weights = "runs/digits-pretrain-{seed}"
    config.run.wise_alphas = tuple(i / 10 for i in range(11))
    config.methods = tuple(SETTINGS)
    config.settings = ConfigDict(SETTINGS)
    config.tune_seeds = SEEDS[:2]
    config.tune = ConfigDict({"wise_alphas": ()})
    config.final_seeds = SEEDS
    config.final = ConfigDict()
    return config
