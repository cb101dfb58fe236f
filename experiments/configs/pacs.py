r"""PACS: fine-tune on photographs, test on art, cartoons and sketches.

python -m experiments.train --config=experiments/configs/pacs.py \
  --config.io.source_dir=PACS --config.io.weights=RESNET18.npz --out=runs/ftp

Numbers to reach, ID / OOD accuracy in %, one seed, at most 1,000 test images a domain:
FTP 86.8 / 28.3, fine-tuning at 3e-4 81.6 / 27.0, a linear probe 88.4 / 30.2.

The study, every method at six settings, then three seeds of the best; its numbers to
reach are FTP 88.3 / 23.3, fine-tuning 82.0 / 22.1, a linear probe 92.0 / 30.5, and
those of the other parts are in docs/results/convolutional.md:

python -m experiments.sweep --out=runs/pacs-resnet18-trunk-new \
  --config=experiments/configs/pacs.py:study:resnet18-trunk,new \
  --config.run.io.source_dir=PACS --config.run.io.weights=RESNET18.npz

FTP at every learning rate and kappa, beside fine-tuning, and its variants; at 1e-3 the
numbers to reach are fine-tuning 58.8 / 15.7, FTP with kappa 0 94.0 / 30.0, with kappa 1
87.6 / 30.2, and all are in docs/results/choosing.md:

python -m experiments.sweep --out=runs/pacs-kappa-probed \
  --config=experiments/configs/pacs.py:kappa:resnet18-trunk,probed \
  --config.run.io.source_dir=PACS --config.run.io.weights=RESNET18.npz
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict
from experiments.configs.studies import RATES, pairs, study

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
        *("fine-tune", "ftp", "linear-probe", "wise-ft", "l2-sp", "spd", "tpgm"),
    ),
}
# Remedies for radii that stay small, and where they are tried.
VARIANTS: tuple[str, ...] = ("ftp-active", "ftp-wide", "ftp-fast", "ftp-smooth")
AT = ((1e-3, 1.0), (1e-3, 0.5))
KAPPAS = (0.0, 0.5, 1.0)


def get_config(part: str = "") -> Config:
    """ResNet-18 trunk, 64 pixels, AdamW.

    Args:
      part: "" for a run; "study:<model>,<start>"; or "kappa:<model>,<start>", also with
        ",variants". The model is "resnet18-trunk" or "mobilenet-v1", the start "new" (a
        zero head) or "probed" (logistic regression); "study" alone has the first ones.
    """
    config = base.get_config()
    config.name = "pacs"
    config.data.train = "pacs:photo_train"
    config.data.validation = "pacs:photo_val"
    config.evaluation.tests = ConfigDict(
        {
            "photo": "pacs:photo_test",
            "art_painting": "pacs:art_painting",
            "cartoon": "pacs:cartoon",
            "sketch": "pacs:sketch",
        }
    )
    config.evaluation.id = "photo"
    return _study(config, part) if part else config


def _study(run: Config, part: str) -> Config:
    kind, _, rest = part.partition(":")
    rest = rest or "resnet18-trunk,new"
    variants = kind == "kappa" and rest.endswith(",variants")
    model, _, start = rest.removesuffix(",variants" if variants else "").partition(",")
    if (
        kind not in ("study", "kappa")
        or model not in METHODS_ON
        or start not in ("new", "probed")
    ):
        raise ValueError(
            "pacs.py: expected '', or 'study:' or 'kappa:' with '<model>,<start>' of"
            f" the models {', '.join(METHODS_ON)} and the starts new, probed; got"
            f" {part!r}."
        )
    run.name = f"pacs {model} {start}"
    run.model.name = model
    run.model.start = f"{start} head"
    # From a probed head LP-FT is fine-tuning.
    methods = [m for m in METHODS_ON[model] if m != "lp-ft" or start == "new"]
    settings = {method: SETTINGS[method] for method in methods}
    if kind == "kappa":
        settings = {"fine-tune": SETTINGS["fine-tune"], "ftp": pairs(RATES, KAPPAS)}
    if variants:
        settings = dict.fromkeys(VARIANTS, AT)
    return study(
        run,
        settings,
        final_seeds=() if kind == "kappa" else (0, 1, 2),
        tune={"evaluation": {"limit": 1000}},
        final={"data": {"image_size": (96, 96)}},
    )
