"""What tables and sentences show of the numbers, and what they leave unsaid."""

import pytest

from run_records import record, write_run

pytest.importorskip("scipy", reason="needs the extra `experiments`")

from experiments.report.conclusion import conclusion, possessive
from experiments.report.gather import gather
from experiments.report.measures import percent
from experiments.report.summarise import summarise
from experiments.report.tables import best_methods, headline, sweep
from experiments.statistics import Interval, interval

METHODS = {"fine-tune": None, "ftp": 1.0, "spd": 1.0}


def summarised(folder, change=lambda found: found, **options):
    for method, strength in METHODS.items():
        found = record(method, 1e-3, strength, 0, **options)
        write_run(folder, change(found))
    (group,) = summarise(gather([folder])[0])
    return group


def column_of(table, head):
    place = list(table.heads).index(head)
    return [row[place] for row in table.rows]


def corrupted_only(found):
    kept = {k: e for k, e in found["evaluation"].items() if e["group"] != "ood"}
    del found["start_evaluation"]
    return found | {"evaluation": kept}


def test_macro_accuracy_is_a_column_of_classification(tmp_path):
    table = headline(summarised(tmp_path))
    (_, fine_tuned, *_) = column_of(table, "Macro, ID")
    (_, accuracy, *_) = column_of(table, "ID test")
    assert fine_tuned.value == pytest.approx(0.98 * accuracy.value)


def test_segmentation_has_no_macro_accuracy(tmp_path):
    def segmented(found):
        for entry in found["evaluation"].values():
            entry["mean_iou"] = entry["accuracy"]
        return found | {"metric": "mean_iou"}

    assert "Macro, ID" not in headline(summarised(tmp_path, segmented)).heads


def test_data_whose_only_shift_is_corruption_has_a_relative_robustness(tmp_path):
    table = headline(summarised(tmp_path, corrupted_only, corruptions=True))
    assert "OOD / ID" not in table.heads
    heads = ("Corr. / ID", "Corrupted", "ID test")
    cells = zip(*(column_of(table, head)[-3:] for head in heads), strict=True)
    for ratio, corrupted, clean in cells:
        assert ratio.value == pytest.approx(corrupted.value / clean.value)


def test_the_sweep_shows_it_too(tmp_path):
    write_run(tmp_path, corrupted_only(record("ftp", 1e-2, 1.0, 0, corruptions=True)))
    table = sweep(summarised(tmp_path, corrupted_only, corruptions=True))
    assert table is not None
    assert "Corr. / ID" in table.heads


def test_all_of_equal_methods_are_the_best_of_a_column(tmp_path):
    def tied(found):
        value = 0.5 if found["method"] == "fine-tune" else 0.9
        found["evaluation"]["photo"]["accuracy"] = value
        return found

    group = summarised(tmp_path, tied)
    assert best_methods(group, "id") == ["spd", "ftp"]
    marked = [cell.best for cell in column_of(headline(group), "ID test")]
    assert marked == [False, False, True, True]  # the first row is the start


def test_seeds_that_agree_exactly_have_no_interval():
    assert percent(interval([0.9, 0.9, 0.9])) == "90.0"
    assert percent(Interval(0.9, 0.0001)) == "90.0 ± 0.0"


def test_the_highest_is_that_of_the_chosen_settings(tmp_path):
    lines = conclusion(summarised(tmp_path))
    assert any(s.startswith("Highest OOD of the chosen settings: ") for s in lines)


@pytest.mark.parametrize(
    ("name", "words"), [("FTP", "FTP's"), ("FTP, active rows", "FTP, active rows'")]
)
def test_names_that_end_in_s_take_an_apostrophe_only(name, words):
    assert possessive(name) == words
