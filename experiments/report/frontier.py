"""The frontier of ID and OOD: every setting, the mixtures, and their convex hull."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from experiments.report.frame import Group, Trial
from experiments.report.measures import Frame


def frontier(group: Group) -> Frame:
    """Every setting, and every mixture of a chosen one with the start, a row each.

    Returns:
      `name`, `method` and `alpha`, NaN of a setting; `id_val`, `id` and `shift`, means
      over seeds; `chosen`; `hull`, whether a setting is on the convex hull of all and
      none beats it in both; `above`, how far a point lies above the hull, more being
      better, NaN where its ID is better than on all of it.
    """
    keys = {"id_val": "id_val", "id": "id", "shift": str(group.shift)}
    settings = [
        {
            "name": trial.name,
            "method": trial.method,
            "alpha": np.nan,
            "chosen": trial is group.chosen[trial.method],
            **{name: trial.mean(key) for name, key in keys.items()},
        }
        for trial in group.trials
    ]
    mixed = [_mixtures(trial, keys) for trial in group.chosen.values()]
    points: Frame = pd.concat([pd.DataFrame(settings), *(m for m in mixed if len(m))])
    points = points.dropna(subset=["id", "shift"]).reset_index(drop=True)
    sign = 1 if group.metric.higher_is_better else -1
    at = sign * points[["id", "shift"]].to_numpy(float)
    top = _hull(at, points.index[points["alpha"].isna()])
    points["hull"] = points.index.isin(top)
    if top:
        points["above"] = at[:, 1] - np.interp(at[:, 0], *at[top].T, right=np.nan)
    return points


def _mixtures(trial: Trial, keys: Mapping[str, str]) -> Frame:
    """The mixtures of a setting's weights with the start; none unless of all seeds."""
    curves = [pd.DataFrame(record.get("wise_curve") or {}) for record in trial.records]
    if any(not {"alpha", *keys.values()} <= {*curve} for curve in curves):
        return pd.DataFrame()
    mean: Frame = pd.concat(curves).astype(float).groupby("alpha").mean()
    mean = mean[[*keys.values()]].set_axis([*keys], axis=1).reset_index()
    names = [f"{trial.label}, α {alpha:g}" for alpha in mean["alpha"]]
    return mean.assign(name=names, method=trial.method, chosen=False)


def _hull(at: np.ndarray, candidates: Iterable[int]) -> list[int]:
    """The upper right hull of points `(n, 2)`: from the highest to the rightmost."""
    top: list[int] = []
    for i in sorted(candidates, key=lambda i: tuple(at[i])):
        while top and not _turns_right(at[[*top[-2:], i]]):
            top.pop()
        top.append(i)
    return top


def _turns_right(points: np.ndarray) -> bool:
    """Whether the last point, further right, leaves the one before it on the hull."""
    (dx, dy), (ex, ey) = points[-2] - points[0], points[-1] - points[-2]
    return bool(ey < 0 and (len(points) < 3 or dx * ey < dy * ex))
