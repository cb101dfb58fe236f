r"""DomainNet: fine-tune on real images, test on four other domains.

python -m experiments.train --config=experiments/configs/domainnet.py:clip \
  --config.io.source_dir=DOMAINNET --config.io.weights=RN50.pt --out=runs/domainnet

With `moco` in place of `clip` and r-50-1000ep.pth.tar it begins with MoCo v3; with
`low_label` behind either, as in `domainnet.py:clip,low_label`, on a tenth of the labels
for 150 epochs; with `tfds`, on TFDS's version of the data.

Numbers to reach, accuracy in % (README of TPGM's code; FTP's, read at second hand, is
84.22 on Real from CLIP's weights):

                     Real   Sketch  Painting  Infograph  Clipart  mean of the four
  CLIP  fine-tuning  79.43  30.43   41.24     18.66      42.36    33.17
        TPGM         82.41  37.53   45.71     26.77      46.07    39.02
  MoCo  fine-tuning  82.00  31.92   43.67     19.66      45.78    35.26
        TPGM         81.30  35.68   46.64     20.03      45.77    37.03

The settings are those of the published code: 224 pixels, batch 256, SGD with Nesterov
momentum 0.9, 50 epochs of a cosine by epochs without warm-up, FTP at 1e-2 (of the 10 %
task, 1e-1) without decay and with kappa 1. Fine-tuning there has the learning rate 1e-3
from CLIP and 5e-2 from MoCo, and TPGM 1e-2, both with
--config.recipe.weight_decay=5e-4; FTP with AdamW 1e-4. For the 10 % task from MoCo no
settings are known to us.

What keeps numbers from being comparable:
* Of real_train.txt the paper trained on 110,307 images and selected by 12,256, as is
  done here, but which these were is not known to us; nor which tenth of them.
* TFDS holds the cleaned version of DomainNet; there 90 % of the training split are
  trained on, and the rest selects.
* The paper's head is new, and fine-tuning from a new head wrecks the trunk at high
  rates; --config.model.start="probed head" begins every method at the same probe.

DOMAINNET holds the folders of the domains and the lists, real_train.txt, real_test.txt,
sketch_test.txt and so on, and no other .txt. For `tfds` prepare the data once, with
TensorFlow, for each domain: tfds build domainnet/real --file_format=array_record
--data_dir=DATA, and give --config.io.data_dir=DATA. It was not run by us on these data.
"""

from experiments.configs import base
from experiments.configs.base import Config, ConfigDict

DOMAINS = ("real", "sketch", "painting", "infograph", "clipart")
MEAN, STD = (0.5964, 0.5712, 0.5336), (0.3228, 0.3165, 0.3374)  # of its colours
MODELS = {"clip": "clip-resnet50", "moco": "resnet50"}
WORDS = (*MODELS, "low_label", "tfds")


def get_config(part: str = "") -> Config:
    """ResNet-50, SGD.

    Args:
      part: "clip" or "moco", alone or with "low_label" and "tfds" after commas;
        without either, "moco".
    """
    words = [word.strip() for word in part.split(",") if word.strip()]
    models = [word for word in words if word in MODELS] or ["moco"]
    if {*words} - {*WORDS} or len(models) > 1:
        raise ValueError(
            f"domainnet.py: expected one of {', '.join(MODELS)}, alone or with"
            f" low_label and tfds after commas, got {part!r}."
        )
    where = "domainnet/{}:{}" if "tfds" in words else "list:{}_{}"
    config = base.get_config()
    config.name = " ".join(["domainnet", *words])
    config.data.train = where.format("real", "train[:90%]")
    config.data.validation = where.format("real", "train[90%:]")
    config.evaluation.tests = ConfigDict({d: where.format(d, "test") for d in DOMAINS})
    config.evaluation.id = "real"
    config.data.image_size = (224, 224)
    config.data.resize = 256
    config.data.scale = (0.08, 1.0)
    config.io.workers = 8
    config.io.cache = False
    config.model.name = MODELS[models[0]]
    config.model.options = ConfigDict({"mean": MEAN, "std": STD})
    config.model.dtype = "bfloat16"
    config.method.strength = 1.0
    config.method.learning_rate = 1e-2
    config.recipe.epochs = 50
    config.recipe.batch_size = 256
    config.recipe.optimizer = "sgd"
    config.recipe.decay_each = "epoch"
    config.io.save_every = 1000
    if "low_label" in words:
        config.data.share = 0.1
        config.recipe.epochs = 150
        config.method.learning_rate = 1e-1
    return config
