"""Means, intervals, selection and pairing, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from run_records import record, write_run

pytest.importorskip("scipy", reason="needs the extra `experiments`")

from experiments.report.conclusion import conclusion
from experiments.report.gather import ReportError, gather
from experiments.report.layers import drifts, final_radii, radii, relative_drifts, short
from experiments.report.measures import in_words, rate
from experiments.report.summarise import summarise

T_2 = 4.302652729911275  # Student's t, 97.5 %, two degrees of freedom


def scored(method, lr, strength, seed, id_val, id_test=0.9, ood=0.3):
    """A record with these accuracies; the three OOD sets lie around their mean."""
    found = record(method, lr, strength, seed)
    found["id_val"] = id_val
    for i, entry in enumerate(found["evaluation"].values()):
        offset = 0.01 * (i - 2)
        entry["accuracy"] = id_test if entry["group"] == "id" else ood + offset
    return found


def only_group(folder):
    (group,) = summarise(gather([folder])[0])
    return group


def test_means_and_intervals_are_students(tmp_path):
    accuracies = (0.90, 0.94, 0.95)
    for seed, accuracy in enumerate(accuracies):
        write_run(tmp_path, scored("ftp", 1e-3, 1.0, seed, 0.9, accuracy, accuracy / 3))
    columns = only_group(tmp_path).methods["ftp"].chosen.columns
    assert columns["id"].mean == pytest.approx(0.93)
    # Standard deviation 0.0264575, over the root of three.
    half = T_2 * 0.02645751311 / math.sqrt(3)
    assert columns["id"].half_width == pytest.approx(half)
    assert columns["ood"].mean == pytest.approx(0.31)
    assert columns["domain/art_painting"].mean == pytest.approx(0.30)
    assert columns["relative_robustness"].mean == pytest.approx(1 / 3)
    assert columns["relative_robustness"].half_width == pytest.approx(0, abs=1e-12)


def test_one_seed_has_no_interval(tmp_path):
    write_run(tmp_path, scored("ftp", 1e-3, 1.0, 0, 0.9))
    assert math.isnan(
        only_group(tmp_path).methods["ftp"].chosen.columns["id"].half_width
    )


def test_the_best_mean_on_id_validation_is_chosen(tmp_path):
    # By OOD and by ID test the other rate would win.
    for seed in (0, 1):
        write_run(tmp_path, scored("ftp", 1e-3, 1.0, seed, 0.91, 0.99, 0.9))
        write_run(
            tmp_path, scored("ftp", 1e-2, 1.0, seed, 0.90 + 0.04 * seed, 0.5, 0.1)
        )
    method = only_group(tmp_path).methods["ftp"]
    assert method.chosen.setting.learning_rate == 1e-2
    assert method.reason == "chosen here, on mean ID validation"


def test_of_equals_the_smallest_rate_then_strength_is_chosen(tmp_path):
    for lr, kappa in ((1e-2, 0.0), (1e-3, 1.0), (1e-3, 0.5)):
        write_run(tmp_path, scored("ftp", lr, kappa, 0, 0.9))
    chosen = only_group(tmp_path).methods["ftp"].chosen.setting
    assert (chosen.learning_rate, chosen.strength) == (1e-3, 0.5)


def test_only_seeds_that_all_settings_share_select(tmp_path):
    write_run(tmp_path, scored("ftp", 1e-3, 1.0, 0, 0.90))
    write_run(tmp_path, scored("ftp", 1e-3, 1.0, 1, 0.99))
    write_run(tmp_path, scored("ftp", 1e-2, 1.0, 0, 0.91))
    assert only_group(tmp_path).methods["ftp"].chosen.setting.learning_rate == 1e-2


def test_a_setting_without_its_number_does_not_win(tmp_path):
    found = scored("fine-tune", 1e-2, None, 0, None) | {"status": "diverged"}
    write_run(tmp_path, found)
    write_run(tmp_path, scored("fine-tune", 1e-3, None, 0, 0.2))
    group = only_group(tmp_path)
    assert group.methods["fine-tune"].chosen.setting.learning_rate == 1e-3
    assert "Did not stay finite: Fine-tuning in 1 of 2 runs." in conclusion(group)


def test_a_diverged_run_counts_as_zero_whatever_it_knew_before(tmp_path):
    # The mean of the other rate is 0.45, as in `experiments.sweep`.
    for seed, status in enumerate(("diverged", "finished")):
        found = scored("fine-tune", 1e-2, None, seed, 0.9) | {"status": status}
        write_run(tmp_path, found)
        write_run(tmp_path, scored("fine-tune", 1e-3, None, seed, 0.5))
    chosen = only_group(tmp_path).methods["fine-tune"].chosen
    assert chosen.setting.learning_rate == 1e-3


def test_the_choice_of_a_sweep_counts(tmp_path):
    for lr, id_val in ((1e-3, 0.8), (1e-2, 0.9)):
        write_run(tmp_path / "tune", scored("ftp", lr, 1.0, 0, id_val))
    choice = {"learning_rate": 1e-3, "strength": 1.0, "runs": ["final/one"]}
    sweep = {"job": "experiments.sweep", "selected": {"ftp": choice}}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    method = only_group(tmp_path).methods["ftp"]
    assert method.chosen.setting.learning_rate == 1e-3
    assert method.reason == "chosen by its sweep, on ID validation"
    (tmp_path / "sweep.json").write_text('{"selected": {}}')
    with pytest.raises(ReportError, match=r"sweep\.json was not made by"):
        only_group(tmp_path)


def test_differences_are_paired_by_seed(tmp_path):
    # Far apart over seeds, yet FTP is ahead by nearly the same in each of them.
    ahead, base = (0.020, 0.021, 0.022), (0.1, 0.5, 0.9)
    for seed in range(3):
        write_run(tmp_path, scored("fine-tune", 1e-3, None, seed, 0.9, ood=base[seed]))
        ood = base[seed] + ahead[seed]
        write_run(tmp_path, scored("ftp", 1e-3, 1.0, seed, 0.9, ood=ood))
    write_run(tmp_path, scored("ftp", 1e-3, 1.0, 7, 0.9, ood=0.0))  # has no partner
    group = only_group(tmp_path)
    (difference,) = group.differences
    assert difference.seeds == [0, 1, 2]
    found = difference.columns["ood"]
    assert found.mean == pytest.approx(0.021)
    assert found.half_width == pytest.approx(T_2 * 0.001 / math.sqrt(3))
    assert any(
        "FTP is higher than Fine-tuning (+2.1 ± 0.2)" in s for s in conclusion(group)
    )


@pytest.mark.parametrize(
    ("ood", "words"),
    [
        ((0.5, 0.51, 0.52), "higher than Fine-tuning"),
        ((0.1, 0.11, 0.12), "lower than Fine-tuning"),
        ((0.28, 0.31, 0.31), "not clearly different from Fine-tuning"),
    ],
)
def test_the_conclusion_follows_the_numbers(tmp_path, ood, words):
    for seed in range(3):
        write_run(tmp_path, scored("fine-tune", 1e-3, None, seed, 0.9))
        write_run(tmp_path, scored("ftp", 1e-3, 1.0, seed, 0.9, ood=ood[seed]))
    lines = conclusion(only_group(tmp_path))
    (line,) = [line for line in lines if line.startswith("OOD, paired")]
    assert f"FTP is {words}" in line


def test_what_differs_in_data_model_start_size_or_stage_is_not_compared(tmp_path):
    base = record("ftp", 1e-3, 1.0, 0)
    changes = ({}, {"model": "vit"}, {"image_size": [96, 96]}, {"name": "camvid"})
    for i, change in enumerate(changes):
        write_run(tmp_path, base | change, f"run{i}")
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 0, start="new head"), "run-new")
    write_run(tmp_path / "final", base)
    titles = {group.title for group in summarise(gather([tmp_path])[0])}
    assert titles == {
        "pacs: resnet18-trunk, probed head, 64 px",
        "pacs: vit, probed head, 64 px",
        "pacs: resnet18-trunk, probed head, 96 px",
        "camvid: resnet18-trunk, probed head, 64 px",
        "pacs: resnet18-trunk, new head, 64 px",
        "pacs: resnet18-trunk, probed head, 64 px, chosen settings",
    }


def test_layers_come_in_forward_order_with_drift_and_radius(tmp_path):
    found = [record("ftp", 1e-3, 1.0, seed) for seed in (0, 1)]
    for entry in found:
        write_run(tmp_path, entry)
    trial = only_group(tmp_path).methods["ftp"].chosen
    path = "backbone/layer1/0/conv2/kernel"
    drift = np.mean([entry["leaves"][path]["drift"] for entry in found])
    assert drifts(trial)[path] == pytest.approx(drift)
    assert relative_drifts(trial)[path] == pytest.approx(drift / 1.5)
    assert "head/kernel" not in relative_drifts(trial)  # began at zero
    assert "head/kernel" not in final_radii(trial)
    traced = radii(trial.runs[1])
    assert traced is not None
    assert traced.layers == [x for x in found[0]["layers"] if x.startswith("backbone")]
    expected = found[1]["trace"]["radius"][path]
    np.testing.assert_allclose(traced.values[traced.layers.index(path)], expected)
    assert short(path) == "layer1/0/conv2"


@pytest.mark.parametrize(
    ("stuck", "words"),
    [((0, 0), "none of 8"), ((3, 3), "3 of 8"), ((0, 3), "0 to 3 of 8")],
)
def test_collapsed_radii_are_counted_run_by_run(tmp_path, stuck, words):
    # Their mean over the seeds would hide those that collapsed in one of them only.
    for seed, count in enumerate(stuck):
        found = record("tpgm", 1e-3, 0.1, seed)
        held = [leaf for leaf in found["leaves"].values() if leaf["radius"] is not None]
        for i, leaf in enumerate(held):
            leaf["radius"] = 1e-8 if i < count else 0.5
        write_run(tmp_path, found)
    (line,) = [s for s in conclusion(only_group(tmp_path)) if "radii" in s]
    assert f"; {words} below 1e-6" in line
    assert (", by seed" in line) == (len(set(stuck)) > 1)


def test_the_start_is_read_off_the_wise_curve_where_it_was_not_measured(tmp_path):
    found = record("fine-tune", 1e-3, None, 0)
    del found["start_evaluation"]
    write_run(tmp_path, found)
    start = only_group(tmp_path).start
    assert {key: value.mean for key, value in start.items()} == pytest.approx(
        {"id_val": 0.87, "id": 0.87, "ood": 0.30}
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (0.01, "1e-2"), (2.5e-5, "2.5e-5"), (1.0, "1e0")],
)
def test_rates_are_written_short(value, text):
    assert rate(value) == text


def test_settings_are_written_in_symbols(tmp_path):
    (run,), _ = gather([write_run(tmp_path, record("ftp", 1e-3, 0.5, 0))])
    assert in_words(run.setting) == "1e-3, κ 0.5"
    (run,), _ = gather([write_run(tmp_path, record("linear-probe", None, 10.0, 0))])
    assert in_words(run.setting) == "C 10"
