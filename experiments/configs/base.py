"""Every option of a run and its default; the other configurations start from here."""

from typing import Any

from ml_collections import ConfigDict, config_dict

RANDOM = "random"  # in place of a file of weights, for a pre-training

Config = Any  # a ConfigDict: type checkers cannot know its options


def get_config() -> Config:
    """The defaults. What is `None` here has to be given, or has a default elsewhere."""
    config: Config = ConfigDict()
    config.name = "experiment"
    config.method = "ftp"  # a key of experiments.methods.METHODS
    # The method's own strength (kappa of FTP, lambda of L2-SP, ...); None: its default.
    config.strength = config_dict.placeholder(float)
    config.seed = 0  # of the order and augmentation of the training images

    config.data = ConfigDict()
    # "<builder>:<split>", of this project's builders or of any prepared TFDS data set.
    config.data.train = config_dict.placeholder(str)
    config.data.validation = config_dict.placeholder(str)  # in-distribution: it selects
    config.data.tests = ConfigDict()  # name -> "<builder>:<split>"
    config.data.id = "id"  # which of the tests is in-distribution
    # Tests that are answered with their own classes only, such as ImageNet-A and -R.
    config.data.own_classes = ()
    config.data.corruptions = ()  # ImageNet-C's, applied to the ID test set
    config.data.severities = (1, 2, 3, 4, 5)
    # Prepared data sets; None: the environment's TFDS_DATA_DIR, or TFDS's own default.
    config.data.data_dir = config_dict.placeholder(str)
    # The folder that this project's builders prepare from.
    config.data.source_dir = config_dict.placeholder(str)
    config.data.image_size = (64, 64)  # pixels, (height, width)
    config.data.resize = config_dict.placeholder(int)  # shorter side before the crop
    config.data.scale = (0.7, 1.0)  # share of the image's area that a training crop has
    config.data.flip = True
    config.data.workers = 0  # processes that load and augment; 0: this one
    config.data.cache = True  # keep decoded images in memory
    # Images a test set, chosen once at random, of each class its share; 0: all.
    config.data.limit = 0

    config.model = ConfigDict()
    config.model.name = "resnet18-trunk"  # a key of experiments.models.MODELS
    # .npz, .safetensors, .pt, .pth; the folder of a finished run; or "random".
    config.model.weights = config_dict.placeholder(str)
    # Of the backbone, such as --config.model.options="{'epsilon': 1e-6}" of a ViT.
    config.model.options = ConfigDict()
    config.model.dtype = "float32"  # of the computation; parameters are float32
    # "new head" (zero; holds no anchor), "probed head" (logistic regression on the
    # pre-trained features; anchored) or "loaded head" (of the weights file; anchored).
    config.start = "new head"

    config.epochs = 6
    config.steps = 0  # instead of `epochs`, if above 0
    config.batch_size = 32  # images, over all devices
    config.evaluation_batch_size = 256
    config.optimizer = "adamw"  # or "sgd": momentum, Nesterov
    config.learning_rate = 1e-3
    config.weight_decay = 0.0  # towards zero
    config.momentum = 0.9  # of sgd
    config.warmup_epochs = 0.0
    config.final_scale = 0.0  # last learning rate, as a share of the highest
    config.clip_norm = 0.0  # largest global norm of a gradient; 0: none
    config.accumulate = 1  # parts a batch is cut into, to need less memory
    config.label_smoothing = 0.0
    config.freeze_statistics = False  # batch norms keep those of the pre-training

    config.observe_every = 10  # steps between two values of radii and drifts
    config.save_every = 200  # steps between two checkpoints
    config.wise_alphas = ()  # mixtures with the start that are evaluated at the end
    # A finished run of the same start, whose parameters are used instead of training.
    config.trained_from = config_dict.placeholder(str)
    return config
