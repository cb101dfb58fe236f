"""What a study is: which runs of one configuration, and how one of them is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.configs.base import Config, ConfigDict

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Setting = tuple[float | None, float | None]  # learning rate and strength


def pairs(
    rates: Sequence[float | None], strengths: Sequence[float | None]
) -> tuple[Setting, ...]:
    """Every learning rate with every strength."""
    return tuple((rate, strength) for strength in strengths for rate in rates)


def study(
    run: Config,
    settings: Mapping[str, tuple[Setting, ...]],
    *,
    tune_seeds: tuple[int, ...] = (0,),
    final_seeds: tuple[int, ...] = (0, 1, 2),
    tune: Mapping[str, Any] | None = None,
    final: Mapping[str, Any] | None = None,
) -> Config:
    """Every method at each of its settings, then the chosen ones once more.

    Args:
      run: what all runs share.
      settings: those of each method, as many for each.
      tune_seeds: of the runs that ID validation chooses from.
      final_seeds: of the chosen settings; none to stop at the choice.
      tune: what the first runs have of their own.
      final: what the last runs have of their own.
    """
    config: Config = ConfigDict()
    config.run = run
    config.methods = tuple(settings)
    config.settings = ConfigDict(dict(settings))
    config.tune_seeds, config.final_seeds = tune_seeds, final_seeds
    config.tune, config.final = ConfigDict(tune or {}), ConfigDict(final or {})
    return config
