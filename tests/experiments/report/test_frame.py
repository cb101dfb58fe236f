"""Means, intervals, choices and pairs, against numbers worked out by hand."""

import dataclasses
import math

import pytest

from experiments.report.frame import groups, rate_words
from experiments.report.frontier import frontier
from experiments.report.measures import column, layers, sequence_measures
from experiments.report.sentences import cards, sentences
from experiments.report.tables import Best, tables
from experiments.statistics import Interval
from experiments.tasks.task import Metric
from run_records import read_back, record

T_2 = 4.302652729911275  # Student's t, 97.5 %, two degrees of freedom


def scored(method, rate, strength, seed, id_val, id_test=0.9, ood=0.3):
    """A record with these accuracies; the three OOD sets lie around their mean."""
    found = record(method, rate, strength, seed)
    found["id_val"] = id_val
    for i, entry in enumerate(found["evaluation"].values()):
        offset = 0.01 * (i - 2)
        entry["accuracy"] = id_test if entry["group"] == "id" else ood + offset
    return found


def angles(method, rate, seed, id_val, id_test, ood):
    """The same in degrees, of which less is better."""
    found = scored(method, rate, None if method == "fine-tune" else 1.0, seed, id_val)
    for entry in found["evaluation"].values():
        entry["angle"] = id_test if entry["group"] == "id" else ood
    metric = {"name": "angle", "higher_is_better": False, "unit": "°"}
    del found["start_evaluation"]
    found.pop("wise_curve", None)  # whose start is a share
    return found | {"metric": metric}


def only_group(*records):
    (group,) = groups(read_back(*records))
    return group


def table(group, title):
    (found,) = [t for t in tables(group) if t.title == title]
    return found.cells


def test_what_a_sequence_of_tasks_learned_and_forgot():
    after = {"a": [0.9, 0.5, 0.7], "b": [0.1, 0.8, 0.4], "c": [0.0, 0.2, 0.6]}
    hand = {"learned": 2.3 / 3, "forgetting": 0.6 / 3, "backward": -0.3}
    assert sequence_measures(after, Metric("accuracy")) == pytest.approx(hand)
    angles = {name: [1 - x for x in row] for name, row in after.items()}
    less = sequence_measures(angles, Metric("angle", higher_is_better=False))
    assert less["forgetting"] == pytest.approx(hand["forgetting"])
    assert less["learned"] == pytest.approx(1 - hand["learned"])
    assert less["backward"] == pytest.approx(0.3)
    assert sequence_measures(None, Metric("accuracy")) == {}


def test_means_and_intervals_are_students():
    accuracies = (0.90, 0.94, 0.95)
    runs = [
        scored("ftp", 1e-3, 1.0, s, 0.9, a, a / 3) for s, a in enumerate(accuracies)
    ]
    trial = only_group(*runs).chosen["ftp"]
    assert trial.get("id").mean == pytest.approx(0.93)
    # Standard deviation 0.0264575, over the root of three.
    half = T_2 * 0.02645751311 / math.sqrt(3)
    assert trial.get("id").half_width == pytest.approx(half)
    assert trial.mean("ood") == pytest.approx(0.31)
    assert trial.mean("domain/art_painting") == pytest.approx(0.30)
    assert trial.mean("relative_robustness") == pytest.approx(1 / 3)
    assert trial.get("relative_robustness").half_width == pytest.approx(0, abs=1e-12)


def test_figures_beside_the_metric_are_means_over_the_test_sets_of_a_group():
    found = record("ftp", 1e-3, 1.0, 0)
    trial = only_group(found).chosen["ftp"]
    photo, *others = found["evaluation"].values()
    assert trial.mean("macro_accuracy@id") == photo["macro_accuracy"]
    assert trial.mean("nll@id") == photo["nll"]
    assert trial.mean("ece@ood") == pytest.approx(sum(e["ece"] for e in others) / 3)


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [((0.9,), "90.0"), ((0.9, 0.9), "90.0"), ((0.9, 0.9002), "90.0 ± 0.1")],
)
def test_what_does_not_hang_on_the_seed_has_no_interval(accuracies, text):
    runs = [scored("ftp", 1e-3, 1.0, s, 0.9, a) for s, a in enumerate(accuracies)]
    group = only_group(*runs)
    assert group.column("id").text(group.chosen["ftp"].get("id")) == text


def test_the_best_mean_on_id_validation_is_chosen_whatever_else_would_win():
    runs = [scored("ftp", 1e-3, 1.0, s, 0.91, 0.99, 0.9) for s in (0, 1)]
    runs += [scored("ftp", 1e-2, 1.0, s, 0.90 + 0.04 * s, 0.5, 0.1) for s in (0, 1)]
    assert only_group(*runs).chosen["ftp"].rate == 1e-2


def test_of_equals_the_smallest_rate_then_strength_is_chosen():
    pairs = ((1e-2, 0.0), (1e-3, 1.0), (1e-3, 0.5))
    chosen = only_group(*(scored("ftp", *p, 0, 0.9) for p in pairs)).chosen["ftp"]
    assert (chosen.rate, chosen.strength) == (1e-3, 0.5)


def test_only_seeds_that_all_settings_share_select():
    runs = [("ftp", 1e-3, 0, 0.90), ("ftp", 1e-3, 1, 0.99), ("ftp", 1e-2, 0, 0.91)]
    runs = [scored(m, rate, 1.0, seed, v) for m, rate, seed, v in runs]
    assert only_group(*runs).chosen["ftp"].rate == 1e-2


@pytest.mark.parametrize("id_val", [None, 0.99])
def test_a_diverged_run_does_not_win(id_val):
    lost = scored("fine-tune", 1e-2, None, 0, id_val) | {"status": "diverged"}
    group = only_group(lost, scored("fine-tune", 1e-3, None, 0, 0.2))
    assert group.chosen["fine-tune"].rate == 1e-3
    assert "Did not stay finite: Fine-tuning in 1 of 2 runs." in sentences(group)


def test_less_is_better_where_the_metric_says_so():
    runs = [angles("fine-tune", 1e-3, s, 20.0, 21.0, 40.0 + s) for s in range(3)]
    runs += [angles("fine-tune", 1e-2, s, 30.0, 15.0, 30.0) for s in range(3)]
    runs += [angles("ftp", 1e-3, s, 18.0, 19.0, 35.0 + s) for s in range(3)]
    lost = angles("ftp", 1e-2, 0, 0.0, 60.0, 80.0) | {"status": "diverged"}
    group = only_group(*runs, lost)
    assert group.chosen["fine-tune"].rate == group.chosen["ftp"].rate == 1e-3
    cells = table(group, "Every method at its chosen setting").set_index("Method")
    assert cells.loc["FTP", "OOD"] == "36.00 ± 2.48"  # no share: degrees as they are
    assert isinstance(cells.loc["FTP", "OOD"], Best)
    assert not isinstance(cells.loc["Fine-tuning", "OOD"], Best)
    against = table(group, "FTP against the others").set_index("Against")
    assert against.loc["Fine-tuning", "ID test"] == "-2.00 (better)"
    kept = group.chosen["ftp"].mean("relative_robustness")
    assert kept == pytest.approx(sum(19 / (35 + s) for s in range(3)) / 3)
    look = column("relative_robustness", group.metric)
    assert (look.label, look.higher) == ("ID / OOD", True)
    assert against.loc["Fine-tuning", "OOD"] == "-5.00 (better)"
    assert ("Best OOD", "36.00 ± 2.48 °", "FTP, 1e-3, κ 1") in cards(group)
    start = {"ood": Interval(34.0), "id": Interval(40.0)}
    shown = cards(dataclasses.replace(group, start=start))
    assert ("Best OOD", "34.00 °", "the start") in shown
    assert [note for *_, note in shown].count("the start") == 1  # not of ID
    found = frontier(group).set_index("name")
    assert [*found.index[found["hull"]]] == ["Fine-tuning, 1e-2"]
    assert found.loc["FTP, 1e-3, κ 1", "above"] == pytest.approx(30 - 36)


def test_differences_are_paired_by_seed():
    # Far apart over seeds, yet FTP is ahead by nearly the same in each of them.
    ahead, base = (0.020, 0.021, 0.022), (0.1, 0.5, 0.9)
    runs = [scored("fine-tune", 1e-3, None, s, 0.9, ood=base[s]) for s in range(3)]
    runs += [scored("ftp", 1e-3, 1.0, s, 0.9, ood=base[s] + ahead[s]) for s in range(3)]
    runs += [scored("ftp", 1e-3, 1.0, 7, 0.9, ood=0.0)]  # has no partner
    cells = table(only_group(*runs), "FTP against the others")
    assert cells.loc[0, "Seeds"] == "3"
    half = 100 * T_2 * 0.001 / math.sqrt(3)
    assert cells.loc[0, "OOD"] == f"+2.1 ± {half:.1f} (better)"


@pytest.mark.parametrize(
    ("ood", "verdict"),
    [
        ((0.5, 0.51, 0.52), "better"),
        ((0.1, 0.11, 0.12), "worse"),
        ((0.28, 0.31, 0.31), "no clear difference"),
        ((0.4,), "one seed, no interval"),
    ],
)
def test_the_verdict_follows_the_numbers(ood, verdict):
    runs = [scored("fine-tune", 1e-3, None, s, 0.9) for s in range(3)]
    runs += [scored("ftp", 1e-3, 1.0, s, 0.9, ood=x) for s, x in enumerate(ood)]
    group = only_group(*runs)
    cell = table(group, "FTP against the others").loc[0, "OOD"]
    ((_, value, note),) = [c for c in cards(group) if c[0] == "FTP − Fine-tuning, OOD"]
    assert cell == f"{value} ({note})"
    assert note == verdict


def test_the_frontier_is_the_upper_right_hull_and_mixtures_are_set_against_it():
    points = {1e-5: (0.80, 0.50), 1e-4: (0.90, 0.45), 1e-3: (0.95, 0.30)}
    inside = {3e-5: (0.85, 0.46), 3e-4: (0.70, 0.45)}
    runs = [scored("ftp", r, 1.0, 0, 0.9, *p) for r, p in (points | inside).items()]
    curve = {"alpha": [0.0, 0.5], "id_val": [0.8, 0.9], "id": [0.85, 0.96]}
    for method, strength in (("fine-tune", None), ("spd", 0.5)):
        mixed = scored(method, 1e-3, strength, 0, 0.9, 0.6, 0.2)
        runs.append(mixed | {"wise_curve": curve | {"ood": [0.5, 0.2]}})
    group = only_group(*runs)
    found = frontier(group).set_index("name")
    assert [*found.index[found["hull"]]] == [
        f"FTP, {rate_words(r)}, κ 1" for r in points
    ]
    for label in ("Fine-tuning", "SPD"):
        # Half-way between the first two the hull is at 0.475.
        assert found.loc[f"{label}, α 0", "above"] == pytest.approx(0.025)
        assert math.isnan(found.loc[f"{label}, α 0.5", "above"])
        said = f"Mixing the weights of {label} with those of the start (WiSE-FT): the"
        said += " best OOD, 50.0 at ID 85.0, is at α 0, 2.5 points above the hull"
        assert any(line.startswith(said) for line in sentences(group))
    assert found.loc["FTP, 3e-4, κ 1", "above"] == pytest.approx(-0.05)


def test_layers_come_in_forward_order_with_drift_and_radius():
    runs = [record("ftp", 1e-3, 1.0, seed) for seed in (0, 1)]
    found = layers(only_group(*runs).chosen["ftp"].records)
    assert [*found.index] == runs[0]["layers"]
    path = "backbone/layer1/0/conv2/kernel"
    drift = sum(run["leaves"][path]["drift"] for run in runs) / 2
    assert found.loc[path, "drift"] == pytest.approx(drift)
    assert found.loc[path, "relative"] == pytest.approx(drift / 1.5)
    assert math.isnan(found.loc["head/kernel", "relative"])  # began at zero
    assert math.isnan(found.loc["head/kernel", "radius"])


@pytest.mark.parametrize(
    ("stuck", "words"),
    [((0, 0), "none of 8"), ((3, 3), "3 of 8"), ((0, 3), "0 to 3 of 8")],
)
def test_collapsed_radii_are_counted_run_by_run(stuck, words):
    # Their mean over the seeds would hide those that collapsed in one of them only.
    runs = [record("tpgm", 1e-3, 0.1, seed) for seed in range(len(stuck))]
    for found, count in zip(runs, stuck, strict=True):
        held = [leaf for leaf in found["leaves"].values() if leaf["radius"] is not None]
        for i, leaf in enumerate(held):
            leaf["radius"] = 1e-8 if i < count else 0.5
    (line,) = [s for s in sentences(only_group(*runs)) if s.startswith("Radii of")]
    assert f"; {words} below 1e-6" in line
    assert (", by seed" in line) == (len(set(stuck)) > 1)


@pytest.mark.parametrize(("ood", "marked"), [(0.31, True), (0.30, False), (0.2, False)])
def test_the_best_is_marked_where_it_beats_the_start(ood, marked):
    # Out of distribution the start has 0.30.
    runs = [
        scored(m, 1e-3, s, 0, 0.9, ood=o)
        for m, s, o in (("ftp", 1.0, ood), ("fine-tune", None, 0.1))
    ]
    rows = {t.title: t.cells for t in tables(only_group(*runs))}
    cells = rows["Every method at its chosen setting"].set_index("Method")
    assert isinstance(cells.loc["FTP", "OOD"], Best) == marked
    assert isinstance(cells.loc["FTP", "ID test"], Best)


def test_an_interval_wider_than_the_scale_says_no_more_than_that():
    accuracy, angle = Metric("accuracy"), Metric("angle", False, "°")
    wide = Interval(0.5, 1.5)
    assert column("id", accuracy).text(wide) == "50.0 ± >100"
    assert column("id", accuracy).text(Interval(0.5, 0.99)) == "50.0 ± 99.0"
    assert column("id", angle).text(Interval(50.0, 150.0)) == "50.00 ± 150.00"


def test_what_radii_can_come_to_in_short_runs_is_said_once():
    short = [record("ftp", 1e-3, 1.0, seed) | {"steps": 30} for seed in (0, 1)]
    said = [s for s in sentences(only_group(*short)) if "at a radius rate" in s]
    assert said == [
        "30 steps at a radius rate of 0.01: a radius comes to about 0.3 at most."
    ]


def test_the_start_is_read_off_the_mixtures_where_it_was_not_measured():
    found = record("fine-tune", 1e-3, None, 0)
    del found["start_evaluation"]
    start = {key: value.mean for key, value in only_group(found).start.items()}
    assert start == pytest.approx({"id_val": 0.87, "id": 0.87, "ood": 0.30})
