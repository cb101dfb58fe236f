"""Which plots a group gets, and what they are called."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from experiments.report import curves, heatmap, layers
from experiments.report.corruptions import severities_of
from experiments.report.file_names import distinct
from experiments.report.gather import Run
from experiments.report.measures import column, in_words
from experiments.report.plane import Tips, save_plane
from experiments.report.rates import rates_of, save_learning_rates
from experiments.report.summarise import Group


class Plot(NamedTuple):
    """A plot, as PNG on disk and as SVG.

    Attributes:
      key: "id_ood", "learning_rate", "radii", ...
      path: of the PNG.
      svg: the same as text.
      title: a heading.
      description: what it shows, for those who do not see it.
      tips: what its elements say, by their id in the SVG.
      run: whose it is, if it shows a single run.
    """

    key: str
    path: pathlib.Path
    svg: str
    title: str
    description: str
    tips: Mapping[str, str] = {}
    run: Run | None = None


def draw(group: Group, folder: pathlib.Path, prefix: str = "") -> list[Plot]:
    """Draws all that the group has numbers for.

    Args:
      group: at least one method.
      folder: exists.
      prefix: of the file names, where the report has several groups.
    """
    runs = [run for m in group.methods.values() for run in m.chosen.runs.values()]
    names = ", ".join(method.label for method in group.methods.values())
    plots: list[Plot] = []

    def path(key: str) -> pathlib.Path:
        return folder / f"{prefix}{key}.png"

    def add(
        key: str, svg: str, title: str, description: str, tips: Tips | None = None
    ) -> None:
        text = f"{description} {group.title}: {names}."
        plots.append(Plot(key, path(key), svg, title, text, tips or {}))

    if group.shift and "id" in group.columns:
        shift = column(group.shift).label
        svg, tips = save_plane(group, path("id_ood"))
        title = f"ID against {shift}"
        add("id_ood", svg, title, f"Scatter plot of ID test against {shift}.", tips)
    if any(len(rates_of(method)) > 1 for method in group.methods.values()):
        add(
            "learning_rate",
            save_learning_rates(group, path("learning_rate")),
            "What the learning rate does",
            "Line plots of ID and OOD against the learning rate, per method.",
        )
    if len(severities_of(group)) > 1:  # of one there is no line; tables have it
        svg = curves.save_severity(group, path("severity"))
        add("severity", svg, "What corruptions do", "Line plot by severity.")
    if any(layers.relative_drifts(m.chosen) for m in group.methods.values()):
        add(
            "drift_depth",
            curves.save_drift(group, path("drift_depth")),
            "Drift over the depth",
            "Line plot of each kernel's drift in relation to its norm.",
        )
    if any((run.record.get("trace") or {}).get("loss") for run in runs):
        svg = curves.save_loss(group, path("loss"))
        add("loss", svg, "Training", "Line plots of training loss and ID validation.")
    return plots + _heat_maps(group, folder, prefix)


def _heat_maps(group: Group, folder: pathlib.Path, prefix: str) -> list[Plot]:
    runs = layers.runs_with_radii(group)
    plots = []
    limits = heatmap.common_range(runs) if runs else (0.0, 0.0)
    names = distinct(run.name for run in runs)
    for run, name in zip(runs, names, strict=True):
        radii = layers.radii(run)
        assert radii is not None
        path = folder / f"{prefix}radii_{name}.png"
        svg = heatmap.save_radii(radii, limits, path)
        label = group.methods[run.method].label
        title = f"{label}, {in_words(run.setting)}, seed {run.seed}"
        description = f"Heat map of the radii of {title}, by layer and step."
        plots.append(Plot("radii", path, svg, title, description, run=run))
    return plots
