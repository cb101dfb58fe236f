"""Checks a configuration before anything is loaded."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

from experiments.configs.base import RANDOM, Config
from experiments.data import corruptions
from experiments.methods import METHODS
from experiments.models import MODELS
from experiments.start import STARTS

OPTIMIZERS = ("adamw", "sgd")
DTYPES = ("float32", "bfloat16")


class SettingError(ValueError):
    """A value of the configuration that cannot be used."""


def plain_dict(config: Config) -> dict[str, Any]:
    """The configuration as nested dicts, tuples and numbers."""
    return config.to_dict()


def check(config: Config) -> None:
    """Raises a `SettingError` that names the first option that cannot be used."""
    if "run" in config:
        raise SettingError(
            "config: expected that of one run, got that of a study; give it to python"
            " -m experiments.sweep."
        )
    one_of("method", config.method, METHODS)
    one_of("model.name", config.model.name, MODELS)
    one_of("model.dtype", config.model.dtype, DTYPES)
    one_of("start", config.start, STARTS)
    one_of("optimizer", config.optimizer, OPTIMIZERS)
    for name in ("train", "validation"):
        given(f"data.{name}", config.data[name])
    for name in (config.data.id, *config.data.own_classes):
        one_of("data.id and data.own_classes", name, config.data.tests)
    check_weights(config)
    check_method(config)
    check_numbers(config)
    check_images(config.data)


def check_weights(config: Config) -> None:
    """Raises a `SettingError` unless it is said what the model begins with."""
    if config.model.weights is None:
        raise SettingError(
            "model.weights: expected a file, the folder of a finished run, or"
            f" {RANDOM!r}; got none."
        )
    if config.start == "loaded head" and config.model.weights == RANDOM:
        raise SettingError(
            "model.weights: a loaded head needs a file or the folder of a finished run;"
            f" got {RANDOM!r}."
        )


def check_method(config: Config) -> None:
    """Raises a `SettingError` for what the method does not take."""
    strength = METHODS[config.method].strength
    if strength is None and config.strength is not None:
        raise SettingError(
            f"strength: {config.method} has none; expected None, got {config.strength}."
        )
    if strength is not None and config.strength is not None:
        within("strength", config.strength, 0.0, strength.highest)
    if config.trained_from and not METHODS[config.method].mixes:
        raise SettingError(
            f"trained_from: {config.method} trains by itself; expected None, got"
            f" {config.trained_from!r}."
        )


def check_numbers(config: Config) -> None:
    """Raises a `SettingError` for a number of the recipe that is out of its range."""
    positive = ("batch_size", "evaluation_batch_size", "accumulate")
    for name in (*positive, "observe_every", "save_every"):
        at_least(name, config[name], 1)
    not_negative = ("epochs", "steps", "learning_rate", "weight_decay", "clip_norm")
    for name in (*not_negative, "warmup_epochs", "seed"):
        at_least(name, config[name], 0)
    within("final_scale", config.final_scale, 0.0, 1.0)
    for name in ("label_smoothing", "momentum"):
        within(name, config[name], 0.0, 1.0, below=True)
    for alpha in config.wise_alphas:
        within("wise_alphas", alpha, 0.0, 1.0)
    if config.epochs == 0 and config.steps == 0:
        raise SettingError("epochs: expected a number above 0, or steps above 0.")
    if config.batch_size % config.accumulate:
        raise SettingError(
            f"accumulate: expected a divisor of batch_size, {config.batch_size}, got"
            f" {config.accumulate}."
        )


def check_images(data: Config) -> None:
    """Raises a `SettingError` for what would fail only when the images are shown."""
    at_least("data.limit", data.limit, 0)
    at_least("data.workers", data.workers, 0)
    for side in two("data.image_size", data.image_size, int):
        at_least("data.image_size", side, 1)
    if data.resize is not None and data.resize < min(data.image_size):
        raise SettingError(
            "data.resize: expected None, or as many pixels as the shorter side of"
            f" data.image_size {tuple(data.image_size)} or more, since images are"
            f" cropped to that; got {data.resize}."
        )
    low, high = two("data.scale", data.scale, (int, float))
    if not 0.0 < low <= high <= 1.0:
        raise SettingError(
            "data.scale: expected shares of the area, the smaller one first, above 0"
            f" and up to 1; got {tuple(data.scale)}."
        )
    for corruption in data.corruptions:
        one_of("data.corruptions", corruption, corruptions.CORRUPTIONS)
    for severity in data.severities:
        one_of("data.severities", severity, corruptions.SEVERITIES)
    if not data.corruptions:
        return
    if min(data.image_size) < corruptions.MIN_SIDE:
        raise SettingError(
            f"data.image_size: corruptions need {corruptions.MIN_SIDE} pixels a side,"
            f" got {tuple(data.image_size)}."
        )
    try:
        corruptions.require()
    except ImportError as error:
        raise SettingError(f"data.corruptions: {error}") from error


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a `SettingError`, with the nearest choice, unless it is one of them."""
    choices = list(choices)
    if value in choices:
        return
    words = list(map(str, choices))
    near = difflib.get_close_matches(str(value), words, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingError(
        f"{name}: expected one of {', '.join(words)}; got {value!r}.{hint}"
    )


def two(name: str, value: Any, kind: type | tuple[type, ...]) -> tuple[Any, Any]:
    """The two numbers; raises a `SettingError` unless there are so many."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(numbers) != 2 or not all(isinstance(n, kind) for n in numbers):
        raise SettingError(
            f"{name}: expected two numbers, such as"
            f" {'(64, 64)' if kind is int else '(0.7, 1.0)'}; got {value!r}."
        )
    return numbers


def given(name: str, value: Any) -> None:
    """Raises a `SettingError` unless there is a value."""
    if value is None:
        raise SettingError(f"{name}: it has no default; give --config.{name}=...")


def at_least(name: str, value: float, lowest: float) -> None:
    """Raises a `SettingError` if the number is lower, or infinite."""
    if not lowest <= value < math.inf:
        raise SettingError(
            f"{name}: expected a finite number from {lowest} on, got {value}."
        )


def within(
    name: str, value: float, lowest: float, highest: float, *, below: bool = False
) -> None:
    """Raises a `SettingError` unless the number lies in the range.

    With `below` the highest number is not one of it.
    """
    if not lowest <= value <= highest or (below and value == highest):
        end = ")" if below else "]"
        raise SettingError(
            f"{name}: expected a number in [{lowest:g}, {highest:g}{end}, got {value}."
        )
