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


def sequence(
    run: Config,
    *,
    domains: tuple[str, ...] = (),
    classes_per_task: int = 0,
    new_anchor: bool = True,
) -> Config:
    """The run of `experiments.continual`, on one task after the other.

    Args:
      run: its data are those of a task, or of all tasks.
      domains: one a task, in place of "{domain}" in `data.train`, `data.validation` and
        the ID test set.
      classes_per_task: how many classes of the data a task adds, instead.
      new_anchor: methods hold a task's weights near what the task before left, not near
        what was pre-trained.
    """
    run.sequence = ConfigDict(
        {
            "domains": domains,
            "classes_per_task": classes_per_task,
            "new_anchor": new_anchor,
        }
    )
    return run


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
      final_seeds: of the chosen settings; none to stop at the choice. A seed that tuned
        is not run again where `tune` and `final` are the same.
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
