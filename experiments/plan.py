"""Which runs a study has: settings of each method, a configuration for each run."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import records
from experiments.configs.base import Config, check_strength
from experiments.configs.values import SettingError, at_least, each, one_of, whole
from experiments.files import jsonable
from experiments.methods import METHODS


class Setting(NamedTuple):
    """What a sweep chooses; `None` where the method has no such number."""

    learning_rate: float | None
    strength: float | None


class Planned(NamedTuple):
    """One run of a sweep."""

    stage: str
    method: str
    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """Such as `ftp-lr0.001-kappa1-seed0`."""
        rate, strength = self.setting
        name = self.method
        if rate is not None:
            name += f"-lr{rate:g}"
        if strength is not None:
            kind = METHODS[self.method].strength
            assert kind is not None
            name += f"-{kind.name.replace(' ', '_')}{strength:g}"
        return f"{name}-seed{self.seed}"


# ---- The settings of every method --------------------------------------------------


def settings(config: Config) -> dict[str, list[Setting]]:
    """The settings of every method, as many for each if the chosen ones run again.

    Raises:
      SettingError: a method is unknown, or has more settings than another.
    """
    if "run" not in config:
        raise SettingError(
            "config: expected that of a study, got that of one run; give it to python"
            " -m experiments.train."
        )
    if not config.methods:
        raise SettingError("methods: expected at least one, got none.")
    if not config.tune_seeds:
        raise SettingError("tune_seeds: expected at least one, got none.")
    for name in ("tune_seeds", "final_seeds"):
        each(whole(0))(name, config[name])
    grid = {}
    for method in config.methods:
        one_of("methods", method, METHODS)
        one_of("settings", method, config.settings.to_dict())
        pairs = [_setting(method, pair) for pair in config.settings[method]]
        if len(set(pairs)) < len(pairs):
            raise SettingError(f"settings.{method}: a setting is given twice.")
        grid[method] = pairs
    counts = {method: len(pairs) for method, pairs in grid.items()}
    if config.final_seeds and len(set(counts.values())) > 1:
        raise SettingError(
            f"settings: expected as many for every method, got {counts}."
        )
    return grid


def _setting(method: str, pair: Any) -> Setting:
    number = int | float | None
    if not (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(x, number) for x in pair)
    ):
        raise SettingError(
            f"settings.{method}: expected pairs of a learning rate and a strength, each"
            f" a number or None, got {pair!r}."
        )
    rate, strength = setting = Setting(*pair)
    if rate is not None:
        at_least(0)(f"settings.{method}", rate)
    check_strength(f"settings.{method}", strength, method, METHODS[method].strength)
    return setting


def narrowed(
    config: Config,
    methods: Iterable[str] | None = None,
    budget: int | None = None,
    given: Iterable[str] = (),
) -> Config:
    """A part of a study: some methods, at some of their settings or at others.

    Args:
      config: of the study; it stays as it is.
      methods: those that take part, by default the study's own.
      budget: settings of each method, evenly chosen from its list, the first and the
        last among them; by default all.
      given: settings in place of a method's list, such as "ftp=1e-3:1,3e-3:1".

    Raises:
      SettingError: a method is unknown or has fewer settings, or what is given is none.
    """
    if "run" not in config:
        return config  # of one run: `settings` says so
    lists = config.settings.to_dict()
    taking_part = tuple(config.methods)
    if methods is not None:
        for method in methods:
            one_of("--methods", method, METHODS)
        # In which fine-tuning comes before what mixes its weights.
        taking_part = tuple(method for method in METHODS if method in {*methods})
    for method, pairs in map(_parsed, given):
        one_of("--settings", method, taking_part)
        lists[method] = pairs
    if budget is not None:
        whole(1)("--budget", budget)
        for method in taking_part:
            lists[method] = _evenly(method, lists.get(method, ()), budget)
    part = config.copy_and_resolve_references()
    with part.unlocked():
        part.methods, part.settings = taking_part, ConfigDict(lists)
    return part


def _parsed(text: str) -> tuple[str, tuple[Any, ...]]:
    """The method and the pairs of `ftp=1e-3:1,3e-3:1`; "-", or no strength, is none."""

    def parsed(pair: str) -> tuple[float | None, ...]:
        rate, colon, strength = pair.partition(":")
        words = rate, strength if colon else "-"
        return tuple(None if word == "-" else float(word) for word in words)

    method, _, pairs = text.partition("=")
    try:
        return method, tuple(map(parsed, pairs.split(",")))
    except ValueError as error:
        raise SettingError(
            "--settings: expected METHOD=RATE:STRENGTH,... with - for none, such as"
            f" ftp=1e-3:1,3e-3:1; got {text!r}."
        ) from error


def _evenly(method: str, pairs: Sequence[Any], budget: int) -> tuple[Any, ...]:
    if budget > len(pairs):
        raise SettingError(
            f"--budget: expected at most the {len(pairs)} settings of {method}, got"
            f" {budget}."
        )
    return tuple(pairs[round(i)] for i in np.linspace(0, len(pairs) - 1, budget))


# ---- Runs --------------------------------------------------------------------------


def planned(
    stage: str, grid: Mapping[str, Iterable[Setting]], seeds: Iterable[int]
) -> list[Planned]:
    """The runs of a stage; those of one seed, which share a start, one by one."""
    return [
        Planned(stage, method, setting, seed)
        for seed in seeds
        for method, pairs in grid.items()
        for setting in pairs
    ]


def folder(config: Config, planned: Planned, out: pathlib.Path) -> pathlib.Path:
    """The folder of one run; of a final one that would repeat a tuning run, that's."""
    tuning = planned._replace(stage="tune")
    there, now = (
        jsonable(configured(config, each, out).to_dict()) for each in (tuning, planned)
    )
    again = planned.seed in config.tune_seeds
    if again and not records.differences(there, now, records.FREE):
        planned = tuning
    return out / planned.stage / planned.name


def configured(config: Config, planned: Planned, out: pathlib.Path) -> Config:
    """The configuration of one run."""
    result: Config = ConfigDict(config.run.to_dict(), type_safe=False)
    result.update(config[planned.stage].to_dict())
    result.method.name, result.seed = planned.method, planned.seed
    rate, strength = planned.setting
    method = METHODS[planned.method]
    if rate is not None:
        result.method.learning_rate = rate
    result.method.strength = strength
    if result.io.weights is not None:  # each seed may have its own
        result.io.weights = result.io.weights.replace("{seed}", str(planned.seed))
    trained = planned._replace(
        method=records.TRAINS_FOR_OTHERS, setting=Setting(rate, None)
    )
    run = out / trained.stage / trained.name
    if method.mixes and (run / records.SELECTED).exists():
        result.io.trained_from = str(run)
    if method.probes or method.mixes:  # a mixture of which would say nothing new
        result.evaluation.wise_alphas = ()
    return result
