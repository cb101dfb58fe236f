"""Which runs are compared with which."""

from collections.abc import Iterable
from typing import Any

from experiments.report.comparison import (
    Comparison,
    Options,
    differing,
    without_training,
)
from experiments.report.gather import Run

_Key = tuple[Comparison, Options]
_Groups = dict[_Key, dict[Any, Run]]  # in each, runs by what they alone are


def comparable(runs: Iterable[Run]) -> list[tuple[Comparison, list[Run]]]:
    """The runs that can be compared with each other, in order of their titles.

    A run that took no steps does not obey the options of training. It still joins the
    runs that have its own, and without such runs all that share the other options. A
    probe also joins those of another training that have no probe of their own.
    """
    keyed = [((run.comparison, run.options), run) for run in runs]
    native = {(key, run.method) for key, run in keyed}
    groups: _Groups = {}
    for key, run in keyed:
        if run.trained:
            groups.setdefault(key, {})[run.twin] = run
    idle = [(key, run) for key, run in keyed if not run.trained]
    for own, run in sorted(idle, key=lambda pair: pair[0] not in groups):
        for key in _homes(own, run, groups, native):
            groups.setdefault(key, {})[run.twin] = run
    found = [(_told_apart(key, groups), [*groups[key].values()]) for key in groups]
    return sorted(found, key=lambda pair: pair[0])


def _homes(
    own: _Key, run: Run, groups: _Groups, native: set[tuple[_Key, str]]
) -> list[_Key]:
    """The groups that a run without steps belongs to."""
    alike = [key for key in groups if _obeyed(key) == _obeyed(own)]
    if own not in alike:
        return [key for key in alike if run.twin not in groups[key]] or [own]
    lacking = [key for key in alike if (key, run.method) not in native]
    return [own, *lacking] if run.probed else [own]


def _obeyed(key: _Key) -> _Key:
    return key[0], without_training(key[1])


def _told_apart(key: _Key, keys: Iterable[_Key]) -> Comparison:
    shared, own = key
    others = [options for title, options in keys if title == shared]
    return shared._replace(differing=differing(own, others))
