"""Which records a report accepts, and how it refuses the others."""

import pytest

from run_records import record, write_run

pytest.importorskip("scipy", reason="needs the extra `experiments`")

from experiments.report.gather import ReportError, Setting, gather


def test_runs_are_found_at_any_depth_and_counted_once(tmp_path):
    a = write_run(tmp_path / "pacs" / "tune", record("ftp", 1e-3, 1.0, 0))
    b = write_run(tmp_path / "pacs" / "final", record("ftp", 1e-3, 1.0, 0))
    runs, notes = gather([tmp_path, a, tmp_path / "pacs"])
    assert [run.path for run in runs] == [b, a]
    assert notes == []
    assert {run.stage for run in runs} == {"tune", "final"}
    assert runs[0].setting == Setting(1e-3, 1.0, "kappa")


def test_the_name_of_a_comparison_does_not_say_things_twice(tmp_path):
    found = record("ftp", 1e-3, 1.0, 0) | {"name": "pacs resnet18-trunk probed"}
    (run,), _ = gather([write_run(tmp_path, found)])
    expected = ("pacs", "resnet18-trunk", "probed head", "", "64")
    assert tuple(run.comparison)[:5] == expected


@pytest.mark.parametrize(
    ("size", "words"), [([96, 96], "96"), ([120, 160], "120 x 160"), (None, "64")]
)
def test_both_sides_of_an_image_are_read_off_the_configuration(tmp_path, size, words):
    found = record("ftp", 1e-3, 1.0, 0)
    if size is not None:
        found["config"]["data"]["image_size"] = size
    (run,), _ = gather([write_run(tmp_path, found | {"image_size": 64})])
    assert run.comparison.image_size == words
    assert f", {words} px" in run.comparison.title


def test_lp_ft_competes_with_those_that_began_with_a_new_head(tmp_path):
    found = record("fine-tune", 1e-3, None, 0, start="new head")
    found |= {"method": "lp-ft", "start": "probed head"}
    (run,), _ = gather([write_run(tmp_path, found)])
    assert run.comparison.start == "new head"


def test_unfinished_runs_are_left_out_with_a_note(tmp_path):
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 0))
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 1) | {"status": "running"}, "half")
    (tmp_path / "begun" / "checkpoints" / "10").mkdir(parents=True)
    runs, notes = gather([tmp_path])
    assert len(runs) == 1
    assert [note.split(":")[0].rpartition("/")[2] for note in notes] == [
        "begun",
        "half",
    ]
    assert "not finished (running)" in notes[1]


def test_diverged_runs_are_kept(tmp_path):
    found = record("fine-tune", 1e-3, None, 0) | {"status": "diverged", "id_val": None}
    (run,), _ = gather([write_run(tmp_path, found)])
    assert run.diverged


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"job": "experiments.train", "seed":', "cannot be read as JSON"),
        ("[1, 2]", "expected a JSON object"),
        ('{"loss": 1}', "not a run of experiments.train.*something unnamed"),
        ('{"job": "experiments.quickstart"}', "made by experiments.quickstart"),
        ('{"job": "experiments.train", "status": "finished"}', "`name` is missing"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(tmp_path, content, message):
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 0))
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.json").write_text(content)
    with pytest.raises(ReportError, match=message) as refused:
        gather([tmp_path])
    assert str(other / "metrics.json") in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "0"}, "`seed`: expected a whole number, got '0'"),
        ({"evaluation": []}, "`evaluation`: expected an object"),
        ({"evaluation": {"photo": {}}}, "'photo': expected a group of id, ood"),
        ({"setting": {"learning_rate": 1}}, "`setting.strength` is missing"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, message):
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0) | change, "run")
    with pytest.raises(ReportError, match=message):
        gather([path])


def test_paths_without_runs_are_refused(tmp_path):
    with pytest.raises(ReportError, match="missing does not exist"):
        gather([tmp_path / "missing"])
    with pytest.raises(ReportError, match=r"no metrics\.json in it or below"):
        gather([tmp_path])
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="file is not a directory"):
        gather([tmp_path / "file"])


def test_the_same_run_in_two_places_is_refused(tmp_path):
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 0), "first")
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 0), "second")
    with pytest.raises(ReportError, match=r"first and .*second are the same method"):
        gather([tmp_path])
