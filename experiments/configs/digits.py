r"""Digits: pre-train on eight appearances, fine-tune on clean ones, test on both.

python -m experiments.train --config=experiments/configs/digits.py:pretrain \
  --config.seed=0 --out=runs/digits-pretrain-0
python -m experiments.train --config=experiments/configs/digits.py \
  --config.io.weights=runs/digits-pretrain-0 --out=runs/digits-ftp

The data of `python -m experiments.quickstart`, drawn when they are asked for. OOD is
the mean over seventeen domains, eight that the pre-training has seen and nine
corruptions. Numbers to reach over five seeds, ID / OOD accuracy in %: pre-trained
94.4 / 83.8; fine-tuning 97.3 / 80.5 at 3e-4, and OOD 76 at 3e-3; FTP at 1e-2 with
kappa 0 97.4 / 80.6.

The study, every method at six settings on five pre-trainings. Every seed begins with
its own pre-trained network, hence {seed} in the path of the weights; the head comes
with them and is held near its value like every layer. Numbers to reach: MARS-PGM 97.8 /
81.3; the others are in docs/results/convolutional.md.

for seed in 0 1 2 3 4; do python -m experiments.train --out=runs/digits-pretrain-$seed \
  --config=experiments/configs/digits.py:pretrain --config.seed=$seed; done
python -m experiments.sweep --config=experiments/configs/digits.py:study \
  --out=runs/digits-study

How far a radius may go in a run of 600 steps, and the same with 60 and 6000;
docs/results/choosing.md has the numbers to reach:

python -m experiments.sweep --config=experiments/configs/digits.py:radii \
  --config.run.recipe.steps=600 --out=runs/digits-radii-600
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict
from experiments.configs.studies import pairs, study
from experiments.data.digits import DOMAINS

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
RADII = {
    "fine-tune": pairs(RATES, (None,)),
    "ftp-rate": pairs((3e-3,), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
}


def get_config(part: str = "") -> Config:
    """One of the two trainings, or the study.

    Args:
      part: "" to fine-tune a pre-trained network, its head included; "pretrain" for
        the network to fine-tune. Its record too measures clean digits as ID, so that
        the two can be compared. "study" for every method; two seeds choose its
        setting, five measure it. "radii" for fine-tuning at six learning rates and
        FTP at six radius rates, three seeds.
    """
    if part not in ("", "pretrain", "study", "radii"):
        raise ValueError(
            f"digits.py: expected '', 'pretrain', 'study' or 'radii', got {part!r}."
        )
    config = base.get_config()
    config.name = "digits"
    config.data.train = "digits:train"
    config.data.validation = "digits:val"
    config.evaluation.tests = ConfigDict({name: f"digits:{name}" for name in DOMAINS})
    config.evaluation.id = "clean"
    config.data.image_size = (16, 16)
    config.data.scale = (1.0, 1.0)
    config.data.flip = False  # it would make other digits
    config.model.name = "small"
    config.model.start = "loaded head"
    config.recipe.steps = 300
    config.recipe.batch_size = 64
    config.evaluation.batch_size = 512
    config.method.learning_rate = 3e-3
    config.recipe.weight_decay = 1e-2
    config.io.save_every = 1000  # a run takes seconds
    if part == "pretrain":
        config.name = "digits, pre-training"
        config.method.name = "fine-tune"
        config.io.weights = base.RANDOM
        config.model.start = "new head"
        config.data.train = "digits:broad"
        config.data.validation = "digits:broad_val"
        config.recipe.steps = 600
        config.recipe.batch_size = 128
        config.method.learning_rate = 2e-3
    if part not in ("study", "radii"):
        return config
    config.io.weights = "runs/digits-pretrain-{seed}"
    if part == "radii":
        return study(config, RADII, tune_seeds=SEEDS[:3], final_seeds=())
    config.evaluation.wise_alphas = tuple(i / 10 for i in range(11))
    return study(
        config,
        SETTINGS,
        tune_seeds=SEEDS[:2],
        final_seeds=SEEDS,
        tune={"evaluation": {"wise_alphas": ()}},
    )
