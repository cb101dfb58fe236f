"""What the numbers say, in sentences, whoever they favour."""

import math
from collections.abc import Iterator

from experiments.report.frame import (
    BASELINE,
    REFERENCE,
    Group,
    Trial,
    frontier,
    paired,
    rate_words,
)
from experiments.report.measures import collapsed, kernels, layer_words, layers

STUCK = 1e-6  # a radius below this keeps its layer where it began
_RELATION = {
    "better": "better than",
    "worse": "worse than",
    "no clear difference": "not clearly different from",
    "one seed, no interval": "apart, on one seed and so without an interval, from",
}


def sentences(group: Group) -> list[str]:
    """Sentences on one group, drawn from its numbers alone."""
    parts = (
        *(_best, _comparisons, _spread, _budgets),
        *(_mixtures, _radii, _drift, _diverged),
    )
    return [line for part in parts for line in part(group)]


def cards(group: Group) -> list[tuple[str, str, str]]:
    """The key numbers: a name, a value and a note each."""
    found = []
    for key in group.headline:
        best, look = best_of(group, key), group.column(key)
        note = ", ".join(filter(None, (best.label, best.setting)))
        value = f"{look.text(best.get(key))} {group.metric.unit}"
        found.append((f"Best {look.label}", value, note))
    if REFERENCE in group.chosen and BASELINE in group.chosen:
        one, other = group.chosen[REFERENCE], group.chosen[BASELINE]
        for key in group.headline:
            if value := paired(one, other, key):
                look = group.column(key)
                name = f"{one.label} − {other.label}, {look.label}"
                found.append((name, look.text(value, "+"), look.verdict(value)))
    return found


def best_of(group: Group, key: str) -> Trial:
    """The chosen setting with the best mean of a headline column."""
    known = [trial for trial in group.chosen.values() if trial.get(key)]
    return max(known, key=lambda trial: group.metric.score(trial.mean(key)))


def _best(group: Group) -> Iterator[str]:
    """The best method of a column at the chosen settings, and where the model began."""
    for key in group.headline:
        best, look = best_of(group, key), group.column(key)
        start = f" (start {look.text(group.start[key])})" if key in group.start else ""
        at = f" at {best.setting}" if best.setting else ""
        yield (
            f"Best {look.label} of the chosen settings: {best.label}{at},"
            f" {look.text(best.get(key))}{start}."
        )


def _comparisons(group: Group) -> Iterator[str]:
    """The reference against all others in one column, by verdict."""
    for key in group.headline if REFERENCE in group.chosen else ():
        reference, look = group.chosen[REFERENCE], group.column(key)
        found: dict[str, list[str]] = {}
        for method, other in group.chosen.items():
            value = paired(reference, other, key)
            if value is not None and method != REFERENCE:
                words = f"{other.label} ({look.text(value, '+')})"
                found.setdefault(look.verdict(value), []).append(words)
        said = [
            f"{_RELATION[x]} {', '.join(found[x])}" for x in _RELATION if x in found
        ]
        if said:
            label = reference.label
            yield f"{look.label}, paired by seed: {label} is {'; '.join(said)}."


def _spread(group: Group) -> Iterator[str]:
    """How much hangs on the setting: best and worst of each method's sweep."""
    key, parts, look = group.shift, [], group.column(group.shift)
    for trials in map(group.of, group.chosen):
        known = [trial for trial in trials if trial.get(key)]
        if len(known) < 2:
            continue
        ranked = sorted(known, key=lambda trial: group.metric.score(trial.mean(key)))
        ends = [look.mean_text(ranked[i].mean(key)) for i in (-1, 0)]
        parts.append(f"{ranked[0].label} {' to '.join(ends)} (at {ranked[0].setting})")
    if parts:
        yield f"{look.label} over the whole sweep, best to worst: {'; '.join(parts)}."


def _budgets(group: Group) -> Iterator[str]:
    """Whether some methods had more settings to choose from than others."""
    tried = {trial.label: len(group.of(m)) for m, trial in group.chosen.items()}
    if len(set(tried.values())) > 1:
        words = ", ".join(f"{label} {count}" for label, count in tried.items())
        yield f"Methods had unequal numbers of settings to choose from: {words}."


def _mixtures(group: Group) -> Iterator[str]:
    """The mixtures of plain fine-tuning with its start, and the frontier."""
    found = frontier(group)
    curve = found[(found["method"] == BASELINE) & found["alpha"].notna()]
    if curve.empty:
        return
    score = group.metric.score
    best = curve.loc[curve["shift"].map(score).idxmax()]
    chosen = curve.loc[curve["id_val"].map(score).idxmax()]
    look = group.column(group.shift)
    beyond = ""
    if not math.isnan(best["above"]):
        side = "above" if best["above"] > 0 else "below"
        gap = look.mean_text(abs(best["above"]))
        beyond = f", {gap} points {side} the hull of all settings"
    yield (
        f"Mixing the weights of {group.chosen[BASELINE].label} with those of the start"
        f" (WiSE-FT): the best {look.label}, {look.mean_text(best['shift'])} at ID"
        f" {look.mean_text(best['id'])}, is at α {best['alpha']:g}{beyond}; ID"
        f" validation is best at α {chosen['alpha']:g}, where {look.label} is"
        f" {look.mean_text(chosen['shift'])}."
    )


def _radii(group: Group) -> Iterator[str]:
    for trial in group.chosen.values():
        radii = layers(trial.records)["radius"].dropna()
        if radii.empty:
            continue
        counts = collapsed(trial.records, STUCK)
        few, many = min(counts), max(counts)
        stuck = f"{few} to {many}" if few < many else many or "none"
        by_seed = ", by seed" if few < many else ""
        yield (
            f"{possessive(trial.label)} radii, at the selected step: median"
            f" {radii.median():.2g}, largest {radii.max():.2g}; {stuck} of {len(radii)}"
            f" below {rate_words(STUCK)}{by_seed}, where a layer stays as it began."
        )


def possessive(name: str) -> str:
    """With an apostrophe.

    >>> possessive("FTP"), possessive("FTP, active rows")
    ("FTP's", "FTP, active rows'")
    """
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _drift(group: Group) -> Iterator[str]:
    parts = []
    for method in (BASELINE, REFERENCE):
        if method not in group.chosen:
            continue
        trial = group.chosen[method]
        found = kernels(layers(trial.records))["relative"].dropna()
        if not found.empty:
            top = str(found.idxmax())
            parts.append(
                f"{trial.label} a median of {found.median():.2g}, most in"
                f" {layer_words(top)} ({found[top]:.2g})"
            )
    if parts:
        yield f"Drift of a kernel, relative to its norm: {'; '.join(parts)}."


def _diverged(group: Group) -> Iterator[str]:
    parts = []
    for trials in map(group.of, group.chosen):
        runs = [record for trial in trials for record in trial.records]
        if diverged := sum(record["status"] == "diverged" for record in runs):
            parts.append(f"{trials[0].label} in {diverged} of {len(runs)} runs")
    if parts:
        yield f"Did not stay finite: {'; '.join(parts)}."
