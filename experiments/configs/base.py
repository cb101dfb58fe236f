"""Every option of a run, its default, and what it may be; the others start from here.

The groups are the meaning. Another training is another `data`, `model`, `recipe` or
`method`; `evaluation` says what is looked at; and what may change between two calls
that go on with one run is `io`: where things are, and how fast they come.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from experiments.configs.values import (
    Check,
    SettingError,
    among,
    anything,
    at_least,
    each,
    given,
    one_of,
    path,
    pixels,
    shares,
    text,
    unknown,
    whole,
    within,
)

RANDOM = "random"  # in place of a file of weights, for a pre-training
STARTS = ("new head", "probed head", "loaded head", "zero-shot head")

STEPS = whole(0, 10**9, ", as more take years")
BATCH = whole(1, 10**6, ", as more fit into no memory")

Config = Any  # a ConfigDict: type checkers cannot know its options


# ---- The options -------------------------------------------------------------------


class Option(NamedTuple):
    """A default, or the type of a value that has none; and what the value may be."""

    default: Any
    check: Check = anything


OPTIONS: dict[str, Option] = {
    "name": Option("experiment"),
    # Of the order and augmentation of the training images, and of random weights.
    "seed": Option(0, whole(0)),
    #
    # "<builder>:<split>", of this project's builders or of any prepared TFDS data set,
    # and "#4:6" behind it for the images of classes 4 and 5 alone; validation is
    # in-distribution: it selects.
    "data.train": Option(str, given),
    "data.validation": Option(str, given),
    # Names of those that count, in the order of their labels; (): all of the data set.
    "data.classes": Option((), each(text)),
    # Of the labels to train and to select by, of each class alike; others stay unseen.
    "data.share": Option(1.0, within(0, 1, but=0)),
    "data.share_seed": Option(0, whole(0)),  # of which these are
    "data.image_size": Option((64, 64), pixels),  # (height, width)
    "data.resize": Option(int),  # shorter side before the central crop of evaluation
    "data.scale": Option((0.7, 1.0), shares),  # of the area that a training crop has
    "data.flip": Option(True),
    "data.randaugment": Option(0.0, within(0, 10)),  # its magnitude; 9 of DeiT, 0: none
    "data.random_erasing": Option(0.0, within(0, 1)),  # the share of images; 0: none
    #
    "model.name": Option("resnet18-trunk"),  # a key of experiments.models.MODELS
    # Of the backbone, such as --config.model.options="{'epsilon': 1e-6}" of a ViT.
    "model.options": Option({}),
    # Of the computation; parameters are float32.
    "model.dtype": Option("float32", among("float32", "bfloat16")),
    # Zero, which holds no anchor; a logistic regression on the pre-trained features;
    # that of the weights; or one for these classes that is made from that of the
    # weights, without training. All but the first are anchored.
    "model.start": Option("new head", among(*STARTS)),
    # Of a zero-shot head: class -> the classes of the weights' own head, by number,
    # whose mean it is. Without any, CLIP's text tower makes it of texts.
    "model.head_rows": Option({}),
    # A file with a text for each class, in the order of the labels, a line each;
    # "imagenet"; None: the classes' names.
    "model.class_texts": Option(str, path),
    # A file with texts that have {} in place of a class; None: OpenAI's 80.
    "model.templates": Option(str, path),
    # tokenizer.json, or vocab.json beside merges.txt; None: beside the weights.
    "model.tokenizer": Option(str, path),
    # Of a task with a target a pixel: "mlp" joins all feature maps of the backbone.
    "model.decoder": Option("linear", among("linear", "mlp")),
    #
    "recipe.epochs": Option(6, STEPS),
    "recipe.steps": Option(0, STEPS),  # instead of `epochs`, if above 0
    "recipe.batch_size": Option(32, BATCH),  # images, over all devices
    "recipe.optimizer": Option("adamw", among("adamw", "sgd")),  # sgd: Nesterov's
    "recipe.weight_decay": Option(0.0, at_least(0)),  # towards zero
    "recipe.momentum": Option(0.9, within(0, 1, but=1)),  # of sgd
    "recipe.warmup_epochs": Option(0.0, at_least(0)),
    "recipe.decay_each": Option("step", among("step", "epoch")),
    # The last learning rate, as a share of the highest.
    "recipe.final_scale": Option(0.0, within(0, 1)),
    # The largest global norm of a gradient; 0: none.
    "recipe.clip_norm": Option(0.0, at_least(0)),
    # Parts a batch is cut into, to need less memory.
    "recipe.accumulate": Option(1, whole(1)),
    "recipe.label_smoothing": Option(0.0, within(0, 1, but=1)),
    # Parameters of their beta distributions; 0: none.
    "recipe.mixup": Option(0.0, at_least(0)),
    "recipe.cutmix": Option(0.0, at_least(0)),
    # The rate of a layer, as a share of that of the layer after it.
    "recipe.layer_decay": Option(1.0, within(0, 1, but=0)),
    # Of the moving average of the parameters that is evaluated; 0: the last ones are.
    "recipe.ema": Option(0.0, within(0, 1, but=1)),
    # Only the classes of the training set count in the loss.
    "recipe.mask_classes": Option(False),
    # Batch norms keep those of the pre-training.
    "recipe.freeze_statistics": Option(False),
    #
    "method.name": Option("ftp"),  # a key of experiments.methods.METHODS
    "method.learning_rate": Option(1e-3, at_least(0)),
    # The method's own (kappa of FTP, lambda of L2-SP, ...); None: its default.
    "method.strength": Option(float),
    # The head is not held even where it is no new one.
    "method.free_head": Option(False),
    # A finished run with io.keep_anchor, whose anchor and radii go on.
    "method.anchor_from": Option(str, path),
    #
    "evaluation.tests": Option({}),  # name -> "<builder>:<split>"
    "evaluation.id": Option("id"),  # which of the tests is in-distribution
    # Tests that are answered with their own classes only, such as ImageNet-A and -R.
    "evaluation.own_classes": Option(()),
    "evaluation.corruptions": Option(()),  # ImageNet-C's, applied to the ID test set
    "evaluation.severities": Option((1, 2, 3, 4, 5), each(among(1, 2, 3, 4, 5))),
    # Images a test set, chosen once at random, of each class its share; 0: all.
    "evaluation.limit": Option(0, whole(0)),
    "evaluation.batch_size": Option(256, BATCH),
    # Also the model before it is fine-tuned, unless its head is new.
    "evaluation.before": Option(True),
    # Steps between two looks at ID validation; 0: an epoch.
    "evaluation.validate_every": Option(0, whole(0)),
    # Steps between two values of radii and drifts.
    "evaluation.observe_every": Option(10, whole(1)),
    # Mixtures with the start that are evaluated at the end.
    "evaluation.wise_alphas": Option((), each(within(0, 1))),
    #
    # .npz, .safetensors, .pt, .pth; hf:organisation/name[:file][@revision]; the folder
    # of a finished run or of save_pretrained; or "random".
    "io.weights": Option(str, path),
    # Prepared data sets; None: the environment's TFDS_DATA_DIR, or TFDS's own default.
    "io.data_dir": Option(str, path),
    "io.source_dir": Option(str, path),  # the folder with the images
    "io.workers": Option(0, whole(0)),  # processes that load; 0: this one
    "io.cache": Option(True),  # keep decoded images in memory
    "io.save_every": Option(200, whole(1)),  # steps between two checkpoints
    # A finished run of the same start, whose parameters are used instead of training.
    "io.trained_from": Option(str, path),
    # Save anchor and radii beside the parameters, for a run that goes on with them.
    "io.keep_anchor": Option(False),
}
GROUPS = ("data", "model", "recipe", "method", "evaluation", "io")


def get_config() -> Config:
    """The defaults. What is `None` here has to be given, or has a default elsewhere."""
    config: Config = ConfigDict()
    for name in GROUPS:
        config[name] = ConfigDict()
    for name, option in OPTIONS.items():
        *group, last = name.split(".")
        parent = config[group[0]] if group else config
        value = option.default
        if isinstance(value, type):
            value = config_dict.placeholder(value)
        parent[last] = ConfigDict(value) if isinstance(value, dict) else value
    return config


# ---- Checks ------------------------------------------------------------------------


def check(config: Config, methods: Mapping[str, Any], models: Iterable[str]) -> None:
    """Raises a `SettingError` that names the first option that cannot be used.

    Args:
      config: of one run.
      methods: `experiments.methods.METHODS`.
      models: the names of `experiments.models.MODELS`.
    """
    if "run" in config:
        raise SettingError(
            "config: expected that of one run, got that of a study; give it to python"
            " -m experiments.sweep."
        )
    groups: Any = {"": config, **{group: config.get(group, {}) for group in GROUPS}}
    for name, option in OPTIONS.items():
        group, _, last = name.rpartition(".")
        if last not in groups[group]:
            raise SettingError(
                f"{name}: the configuration lacks it; begin with that of"
                " experiments.configs.base.get_config()."
            )
        option.check(name, groups[group][last])
    for group, content in groups.items():
        for last in content:
            name = f"{group}.{last}".strip(".")
            if name not in (*OPTIONS, *GROUPS):
                raise unknown(name, OPTIONS)
    one_of("method.name", config.method.name, methods)
    one_of("model.name", config.model.name, models)
    _check_method(config, methods[config.method.name])
    _check_weights(config)
    _check_batches(config.recipe)
    _check_images(config)


def _check_method(config: Config, method: Any) -> None:
    name, strength = config.method.name, config.method.strength
    check_strength("method.strength", strength, name, method.strength)
    if config.io.trained_from and not method.mixes:
        raise SettingError(
            f"io.trained_from: {name} trains by itself; expected None, got"
            f" {config.io.trained_from!r}."
        )


def check_strength(option: str, value: float | None, method: str, of: Any) -> None:
    """Raises a `SettingError` unless `method`, of this `Strength`, can have it."""
    if value is None:
        return
    if of is None:
        raise SettingError(f"{option}: {method} has none; expected None, got {value}.")
    within(0, of.highest, but=of.but)(option, value)


def _check_weights(config: Config) -> None:
    if config.io.weights is None:
        raise SettingError(
            "io.weights: expected a file, hf:organisation/name, the folder of a"
            f" finished run, or {RANDOM!r}; got none."
        )
    start = config.model.start
    if start in ("loaded head", "zero-shot head") and config.io.weights == RANDOM:
        raise SettingError(
            f"io.weights: a {start} needs a file or a finished run; got {RANDOM!r}."
        )
    for name, rows in config.model.head_rows.items():
        each(whole(0))(f"model.head_rows.{name}", rows)
        if not rows:
            raise SettingError(
                f"model.head_rows.{name}: expected at least one, got none."
            )


def _check_batches(recipe: Config) -> None:
    if recipe.epochs == 0 and recipe.steps == 0:
        raise SettingError(
            "recipe.epochs: expected a number above 0, or steps above 0."
        )
    if recipe.batch_size % recipe.accumulate:
        raise SettingError(
            "recipe.accumulate: expected a divisor of batch_size,"
            f" {recipe.batch_size}, got {recipe.accumulate}."
        )


def _check_images(config: Config) -> None:
    """What would fail only when the images are shown."""
    data, evaluation = config.data, config.evaluation
    for name in (evaluation.id, *evaluation.own_classes):
        one_of("evaluation.id and evaluation.own_classes", name, evaluation.tests)
    if data.resize is not None and data.resize < min(data.image_size):
        raise SettingError(
            "data.resize: expected None, or as many pixels as the shorter side of"
            f" data.image_size {tuple(data.image_size)} or more, since images are"
            f" cropped to that; got {data.resize}."
        )
    if not evaluation.corruptions:
        return
    from experiments.data import corruptions  # few look at any

    for name in evaluation.corruptions:
        one_of("evaluation.corruptions", name, corruptions.CORRUPTIONS)
    if min(data.image_size) < corruptions.MIN_SIDE:
        raise SettingError(
            f"data.image_size: corruptions need {corruptions.MIN_SIDE} pixels a side,"
            f" got {tuple(data.image_size)}."
        )
    try:
        corruptions.library()
    except ImportError as error:
        raise SettingError(f"evaluation.corruptions: {error}") from error
