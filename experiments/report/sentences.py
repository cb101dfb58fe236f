"""What the numbers say, in cards and sentences, whoever they favour.

Who is clearly better than whom is in the table of paired differences.
"""

from collections.abc import Iterator

from experiments.report.frame import BASELINE, REFERENCE, Group, paired, rate_words
from experiments.report.frontier import frontier
from experiments.report.measures import collapsed, kernels, layer_words, layers
from experiments.telling import reach

STUCK = 1e-6  # a radius below this keeps its layer where it began


def cards(group: Group) -> list[tuple[str, str, str]]:
    """The key numbers: a name, a value and a note each."""
    best, differences = [], []
    one, other = (group.chosen.get(method) for method in (REFERENCE, BASELINE))
    for key in group.headline:
        look, score = group.column(key), group.metric.score
        ends = [(trial.get(key), trial.name) for trial in group.chosen.values()]
        ends.append((group.start.get(key), "the start"))
        measured = [(found, name) for found, name in ends if found]
        found, name = max(measured, key=lambda end: score(end[0].mean))
        value = f"{look.text(found)} {group.metric.unit}"
        best.append((f"Best {look.label}", value, name))
        if one and other and (value := paired(one, other, key)):
            name = f"{one.label} − {other.label}, {look.label}"
            differences.append((name, look.text(value, "+"), look.verdict(value)))
    return best + differences


def sentences(group: Group) -> list[str]:
    """Sentences on one group, drawn from its numbers alone."""
    parts = (_sweeps, _mixtures, _radii, _drift)
    return [line for part in parts for line in part(group)]


def _sweeps(group: Group) -> Iterator[str]:
    """What hangs on the setting, and whether all had as many; what did not end well."""
    look, score = group.column(group.shift), group.metric.score
    spread, tried, lost = [], [], []
    for method, chosen in group.chosen.items():
        trials, runs = group.of(method), group.runs[group.runs["method"] == method]
        tried.append(f"{chosen.label} {len(trials)}")
        if diverged := runs["diverged"].sum():
            lost.append(f"{chosen.label} in {diverged} of {len(runs)} runs")
        known = [trial for trial in trials if trial.get(group.shift)]
        known.sort(key=lambda trial: score(trial.mean(group.shift)))
        if len(known) > 1:
            ends = [look.text(known[i].mean(group.shift)) for i in (-1, 0)]
            at = known[0].setting
            spread.append(f"{chosen.label} {' to '.join(ends)} (at {at})")
    if spread:
        yield f"{look.label} over the whole sweep, best to worst: {'; '.join(spread)}."
    if len({words.split()[-1] for words in tried}) > 1:
        words = ", ".join(tried)
        yield f"Methods had unequal numbers of settings to choose from: {words}."
    if lost:
        yield f"Did not stay finite: {'; '.join(lost)}."


def _mixtures(group: Group) -> Iterator[str]:
    """The mixtures of what each method chose with its start, and the frontier."""
    points, look = frontier(group), group.column(group.shift)
    for method, curve in points[points["alpha"].notna()].groupby("method", sort=False):
        best, chosen = (
            curve.loc[curve[key].map(group.metric.score).idxmax()]
            for key in ("shift", "id_val")
        )
        side = "above" if best["above"] > 0 else "below"
        gap = look.text(abs(best["above"]))
        beyond = "" if gap == "–" else f", {gap} points {side} the hull of all settings"
        yield (
            f"Mixing the weights of {group.chosen[method].label} with those of the"
            f" start (WiSE-FT): the best {look.label}, {look.text(best['shift'])} at ID"
            f" {look.text(best['id'])}, is at α {best['alpha']:g}{beyond}; ID"
            f" validation is best at α {chosen['alpha']:g}, where {look.label} is"
            f" {look.text(chosen['shift'])}."
        )


def _radii(group: Group) -> Iterator[str]:
    reaches: dict[str, None] = {}  # each said once
    for trial in group.chosen.values():
        radii = layers(trial.records)["radius"].dropna()
        if radii.empty:
            continue
        counts = collapsed(trial.records, STUCK)
        few, many = min(counts), max(counts)
        stuck = f"{few} to {many}" if few < many else many or "none"
        by_seed = ", by seed" if few < many else ""
        yield (
            f"Radii of {trial.label}, at the selected step: median"
            f" {radii.median():.2g}, largest {radii.max():.2g}; {stuck} of {len(radii)}"
            f" below {rate_words(STUCK)}{by_seed}, where a layer stays as it began."
        )
        reaches |= dict.fromkeys(filter(None, map(reach, trial.records)))
    yield from reaches


def _drift(group: Group) -> Iterator[str]:
    parts = []
    for trial in filter(None, map(group.chosen.get, (BASELINE, REFERENCE))):
        moved = kernels(layers(trial.records))["relative"].dropna()
        if not moved.empty:
            top = moved.idxmax()
            parts.append(
                f"{trial.label} a median of {moved.median():.2g}, most in"
                f" {layer_words(top)} ({moved[top]:.2g})"
            )
    within = " in the last task" if group.is_sequence else ""
    if parts:
        yield f"Drift of a kernel{within}, relative to its norm: {'; '.join(parts)}."
