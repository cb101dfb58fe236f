"""Checks a configuration before anything is loaded."""

import difflib
from collections.abc import Iterable
from typing import Any

from experiments.configs.base import Config
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
    one_of("method", config.method, METHODS)
    one_of("model.name", config.model.name, MODELS)
    one_of("model.dtype", config.model.dtype, DTYPES)
    one_of("start", config.start, STARTS)
    one_of("optimizer", config.optimizer, OPTIMIZERS)
    for name in ("train", "validation"):
        given(f"data.{name}", config.data[name])
    for name in (config.data.id, *config.data.own_classes):
        one_of("data.id and data.own_classes", name, config.data.tests)
    if config.start == "loaded head":
        given("model.weights", config.model.weights)
    strength = METHODS[config.method].strength
    if strength is None and config.strength is not None:
        raise SettingError(
            f"strength: {config.method} has none; expected None, got {config.strength}."
        )
    positive = ("batch_size", "evaluation_batch_size", "accumulate")
    for name in (*positive, "observe_every", "save_every"):
        at_least(name, config[name], 1)
    for name in ("epochs", "steps", "learning_rate", "weight_decay", "warmup_epochs"):
        at_least(name, config[name], 0)
    if config.epochs == 0 and config.steps == 0:
        raise SettingError("epochs: expected a number above 0, or steps above 0.")
    if config.batch_size % config.accumulate:
        raise SettingError(
            f"accumulate: expected a divisor of batch_size, {config.batch_size}, got"
            f" {config.accumulate}."
        )


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises a `SettingError`, with the nearest choice, unless it is one of them."""
    choices = list(choices)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingError(
        f"{name}: expected one of {', '.join(choices)}; got {value!r}.{hint}"
    )


def given(name: str, value: Any) -> None:
    """Raises a `SettingError` unless there is a value."""
    if value is None:
        raise SettingError(f"{name}: it has no default; give --config.{name}=...")


def at_least(name: str, value: float, lowest: float) -> None:
    """Raises a `SettingError` if the number is lower."""
    if not value >= lowest:
        raise SettingError(f"{name}: expected a number from {lowest} on, got {value}.")
