"""The report as one page that needs nothing else: no file beside it, no network."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from experiments.report.conclusion import conclusion, verdict
from experiments.report.layers import radii, short
from experiments.report.measures import METRICS, column, in_words, percent
from experiments.report.palette import GRID, INK, PAPER, looks
from experiments.report.plots import Plot
from experiments.report.summarise import REFERENCE, Group
from experiments.report.summary import common_settings
from experiments.report.tables import overview, tables
from experiments.report.vector import inline

PAGE = "index.html"
FOLDER = pathlib.Path(__file__).parent / "template"
FOLDED = ("sweep", "severities", "drift")  # tables shown on demand


class Card(NamedTuple):
    """A key number."""

    name: str
    value: str
    note: str


def page(
    title: str,
    groups: Sequence[Group],
    notes: Sequence[str],
    plots: Mapping[str, Sequence[Plot]],
) -> str:
    """Writes the page.

    Args:
      title: of the page.
      groups: at least one.
      notes: what was left out.
      plots: by group's slug.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = tight
    style, script = (
        Markup((FOLDER / name).read_text(encoding="utf-8"))
        for name in ("page.css", "page.js")
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        style=style,
        script=script,
        colours=_colours(groups),
        intro=_intro(groups),
        overview=overview(groups),
        groups=[_section(group, plots[group.slug]) for group in groups],
        notes=notes,
        made_with=_made_with(groups),
    )


def tight(text: str) -> Markup:
    """Escapes a sentence and keeps its numbers, with their intervals, on one line."""
    number = r"\(?[+-]?\d\S* ± \S+|\S*\de-\d\S*"
    return Markup(
        re.sub(number, r'<span class="tight">\g<0></span>', str(escape(text)))
    )


def _methods(groups: Sequence[Group]) -> dict[str, str]:
    return {m.key: m.label for group in groups for m in group.methods.values()}


def _colours(groups: Sequence[Group]) -> dict[str, Any]:
    """Every colour variable, on light and on dark ground."""
    found = {f"m-{key}": look for key, look in looks(_methods(groups)).items()}
    # The WiSE curve has a colour of its own even where the method did not run.
    found.setdefault("m-wise-ft", looks(["wise-ft"])["wise-ft"])
    return {"ink": INK, "grid": GRID, "paper": PAPER, **found}


def _intro(groups: Sequence[Group]) -> str:
    runs = dict.fromkeys(run for group in groups for run in group.runs)
    hours = sum(run.record.get("seconds") or 0.0 for run in runs) / 3600
    models = ", ".join(dict.fromkeys(group.shared.model for group in groups))
    counts = {
        "run": len(runs),
        "method": len(_methods(groups)),
        "seed": len({run.seed for run in runs}),
    }
    parts = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items()] + [models]
    if hours:
        parts.append(f"{hours:.1f} h of training")
    return " · ".join(parts)


def _section(group: Group, plots: Sequence[Plot]) -> dict[str, Any]:
    """All that the template shows of a group."""
    colours = {f"m-{key}": look for key, look in looks([*group.methods]).items()}
    colours.setdefault("m-wise-ft", looks(["wise-ft"])["wise-ft"])
    images: dict[str, list[dict[str, Any]]] = {}
    for i, plot in enumerate(plots):
        prefix = f"{group.slug}-{i}-"
        svg = inline(plot.svg, plot.description, colours, plot.tips, prefix)
        shown = {"title": plot.title, "svg": Markup(svg), "file": plot.path.name}
        if plot.run is not None:
            shown |= {"name": plot.run.name, "radii": _radii(plot)}
        images.setdefault(plot.key, []).append(shown)
    settings, varied = common_settings(group)
    return {
        "slug": group.slug,
        "title": group.title,
        "metric": METRICS.get(group.metric, group.metric),
        "reasons": _reasons(group),
        "cards": cards(group),
        "conclusion": conclusion(group),
        "tables": {table.key: table for table in tables(group)},
        "folded": FOLDED,
        "plots": images,
        "settings": settings,
        "varied": varied,
    }


def cards(group: Group) -> list[Card]:
    """The key numbers: who is best, and how FTP compares with fine-tuning."""
    found = []
    for key in ("id", "ood", "corruption"):
        shown = [m for m in group.methods.values() if key in m.chosen.columns]
        if shown:
            best = max(shown, key=lambda m: m.chosen.columns[key].mean)
            setting = in_words(best.chosen.setting)
            found.append(
                Card(
                    f"Best {column(key).label}",
                    f"{percent(best.chosen.columns[key])} %",
                    f"{best.label}{', ' * bool(setting)}{setting}",
                )
            )
    for difference in group.differences[:1]:
        other = group.methods[difference.other].label
        for key, value in difference.columns.items():
            found.append(
                Card(
                    f"{group.methods[REFERENCE].label} − {other}, {column(key).label}",
                    f"{percent(value, '+')} pts",
                    f"{verdict(value)}; {len(difference.seeds)} paired",
                )
            )
    return found


def _reasons(group: Group) -> str:
    """How settings were chosen, in a sentence."""
    by_reason: dict[str, list[str]] = {}
    for method in group.methods.values():
        by_reason.setdefault(method.reason, []).append(method.label)
    if len(by_reason) == 1:
        return f"The setting of every method: {next(iter(by_reason))}."
    parts = [f"{why} ({', '.join(names)})" for why, names in by_reason.items()]
    return f"The settings: {'; '.join(parts)}."


def _radii(plot: Plot) -> dict[str, Any]:
    """What hovering over a heat map says."""
    assert plot.run is not None
    found = radii(plot.run)
    assert found is not None
    return {
        "layers": [short(name) for name in found.layers],
        "steps": found.steps.tolist(),
        "values": [[f"{value:.2g}" for value in row] for row in found.values],
    }


def _made_with(groups: Sequence[Group]) -> dict[str, str]:
    """Versions and machines, all that occur."""
    found: dict[str, dict[str, None]] = {}
    for group in groups:
        for run in group.runs:
            for name, version in (run.record.get("versions") or {}).items():
                found.setdefault(name, {})[str(version)] = None
            if machine := run.record.get("machine"):
                found.setdefault("machine", {})[str(machine)] = None
    return {name: "; ".join(values) for name, values in found.items()}
