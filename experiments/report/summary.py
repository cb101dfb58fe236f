"""The numbers of a report as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.json_files import flat
from experiments.report import layers
from experiments.report.conclusion import conclusion, wise_curve
from experiments.report.corruptions import severity_intervals
from experiments.report.gather import Setting
from experiments.report.summarise import Columns, Group, Method, Trial
from experiments.statistics import Interval


def summary(
    job: str,
    title: str,
    groups: Sequence[Group],
    notes: Sequence[str],
    plots: Sequence[str],
) -> dict[str, Any]:
    """All numbers that tables and plots show; shares in [0, 1], no NaN."""
    return {
        "job": job,
        "title": title,
        "notes": list(notes),
        "plots": list(plots),
        "groups": [_group(group) for group in groups],
    }


def _group(group: Group) -> dict[str, Any]:
    curve = wise_curve(group)
    return {
        **group.shared._asdict(),
        "metric": group.metric,
        "start_evaluation": _columns(group.start),
        "methods": {key: _method(method) for key, method in group.methods.items()},
        "differences": [
            {
                "method": d.method,
                "other": d.other,
                "seeds": list(d.seeds),
                **_columns(d.columns),
            }
            for d in group.differences
        ],
        "wise_curve": curve and {key: list(map(float, v)) for key, v in curve.items()},
        "conclusion": conclusion(group),
        "settings": common_settings(group)[0],
    }


def _method(method: Method) -> dict[str, Any]:
    chosen = method.chosen
    severities = severity_intervals(chosen)
    return {
        "label": method.label,
        "chosen": _setting(chosen.setting),
        "chosen_how": method.reason,
        "settings": [_trial(trial) for trial in method.trials],
        "drift": layers.drifts(chosen),
        "relative_drift": layers.relative_drifts(chosen),
        "radius": layers.final_radii(chosen),
        "corruptions": {
            name: {severity or "mean": _interval(v) for severity, v in by.items()}
            for name, by in severities.items()
        },
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        **_setting(trial.setting),
        "seeds": list(trial.runs),
        "runs": [run.name for run in trial.runs.values()],
        "diverged": trial.diverged,
        **_columns(trial.columns),
    }


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "learning_rate": setting.learning_rate,
        "strength": setting.strength,
        "strength_name": setting.strength_name,
    }


def _columns(columns: Columns) -> dict[str, Any]:
    return {key: _interval(value) for key, value in columns.items()}


def _interval(value: Interval) -> dict[str, float | None]:
    half = None if math.isnan(value.half_width) else value.half_width
    return {"mean": value.mean, "half_width": half}


def common_settings(group: Group) -> tuple[dict[str, Any], list[str]]:
    """What all runs of a group were configured with, and the names of what varies."""
    configs = [flat(run.record.get("config") or {}) for run in group.runs]
    names = list(dict.fromkeys(name for config in configs for name in config))
    first = configs[0]
    same = [n for n in names if all(c.get(n) == first.get(n) for c in configs)]
    return {n: first.get(n) for n in same}, [n for n in names if n not in same]
