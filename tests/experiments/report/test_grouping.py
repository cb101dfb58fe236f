"""Which runs meet in a comparison, and how those that do not are headed."""

import pytest

from run_records import record, write_run

pytest.importorskip("scipy", reason="needs the extra `experiments`")

from experiments.report.gather import ReportError, gather
from experiments.report.summarise import summarise

TITLE = "pacs: resnet18-trunk, probed head, 64 px"
METHODS = {"fine-tune": None, "ftp": 1.0, "wise-ft": 0.5, "linear-probe": 10.0}


def configured(method, *, seed=0, **changes):
    """A record; `changes` are options of its configuration, `data` of its data."""
    rate = None if method == "linear-probe" else 1e-3
    found = record(method, rate, METHODS[method], seed)
    found["config"]["data"] |= changes.pop("data", {})
    found["config"] |= changes
    return found


def grouped(folder, *records):
    """The methods of each comparison, by title."""
    for i, found in enumerate(records):
        write_run(folder, found, f"run{i}")
    groups = summarise(gather([folder])[0])
    assert len({group.slug for group in groups}) == len(groups)
    return {group.title: set(group.methods) for group in groups}


@pytest.mark.parametrize(
    ("changes", "there", "here"),
    [
        ({"optimizer": "sgd"}, "optimizer adamw", "optimizer sgd"),
        ({"epochs": 12}, "epochs 4", "epochs 12"),
        ({"weight_decay": 1e-4}, "weight decay 0", "weight decay 0.0001"),
        ({"label_smoothing": 0.1}, "label smoothing 0", "label smoothing 0.1"),
        ({"freeze_statistics": True}, "freeze statistics off", "freeze statistics on"),
        ({"data": {"scale": [0.5, 1]}}, "scale 0.7 1", "scale 0.5 1"),
        ({"data": {"train": "mine:a"}}, "train pacs:photo_train", "train mine:a"),
        ({"model": {"dtype": "bfloat16"}}, "dtype float32", "dtype bfloat16"),
    ],
)
def test_another_training_is_another_comparison(tmp_path, changes, there, here):
    found = grouped(tmp_path, configured("fine-tune"), configured("ftp", **changes))
    assert found == {f"{TITLE}, {there}": {"fine-tune"}, f"{TITLE}, {here}": {"ftp"}}


def test_nothing_is_paired_across_trainings(tmp_path):
    write_run(tmp_path, configured("fine-tune"))
    write_run(tmp_path, configured("ftp", optimizer="sgd"))
    assert [g.differences for g in summarise(gather([tmp_path])[0])] == [[], []]


def test_what_a_number_does_not_hang_on_keeps_runs_together(tmp_path):
    free = {
        "strength": 1.0,
        "learning_rate": 1e-2,
        "seed": 1,
        "wise_alphas": [0.5],
        "observe_every": 50,
        "save_every": 7,
        "evaluation_batch_size": 8,
        "model": {"weights": "elsewhere.npz"},
        "data": {"workers": 4, "cache": False, "source_dir": "a", "data_dir": "b"},
    }
    found = grouped(tmp_path, configured("fine-tune"), configured("ftp", **free))
    assert found == {TITLE: {"fine-tune", "ftp"}}


def test_an_option_that_an_older_record_lacks_had_its_default(tmp_path):
    younger = {"freeze_statistics": False, "data": {"severities": [1, 2, 3, 4, 5]}}
    found = grouped(tmp_path, configured("fine-tune"), configured("ftp", **younger))
    assert found == {TITLE: {"fine-tune", "ftp"}}


def test_folders_of_images_are_told_apart_by_their_names(tmp_path):
    folders = ("/here/pets", "there/pets/", "/here/cars")
    data = [{"train": "image_folder:train", "source_dir": path} for path in folders]
    runs = [
        configured(method, data=each)
        for method, each in zip(("fine-tune", "ftp", "wise-ft"), data, strict=True)
    ]
    assert grouped(tmp_path, *runs) == {
        f"{TITLE}, source dir cars": {"wise-ft"},
        f"{TITLE}, source dir pets": {"fine-tune", "ftp"},
    }


def test_what_takes_no_steps_is_compared_whatever_its_training(tmp_path):
    idle = {"epochs": 9, "optimizer": "sgd", "label_smoothing": 0.1}
    found = grouped(
        tmp_path,
        configured("fine-tune"),
        configured("linear-probe", **idle),
        configured("wise-ft", trained_from="elsewhere", **idle),
    )
    assert found == {TITLE: {"fine-tune", "linear-probe", "wise-ft"}}
    (tmp_path / "other").mkdir()
    limited = configured("linear-probe", data={"limit": 100})
    found = grouped(tmp_path / "other", configured("fine-tune"), limited)
    assert set(found) == {f"{TITLE}, limit 0", f"{TITLE}, limit 100"}


def test_a_probe_joins_every_training_and_mixed_weights_their_own(tmp_path):
    found = grouped(
        tmp_path,
        configured("fine-tune"),
        configured("ftp", optimizer="sgd"),
        configured("linear-probe"),
        configured("wise-ft", optimizer="sgd", trained_from="elsewhere"),
    )
    assert found == {
        f"{TITLE}, optimizer adamw": {"fine-tune", "linear-probe"},
        f"{TITLE}, optimizer sgd": {"ftp", "linear-probe", "wise-ft"},
    }


def test_sweeps_of_two_trainings_keep_their_own_probes(tmp_path):
    for optimizer in ("adamw", "sgd"):
        for method in ("fine-tune", "linear-probe"):
            found = configured(method, optimizer=optimizer)
            write_run(tmp_path / optimizer, found)
    for group in summarise(gather([tmp_path])[0]):
        (run,) = group.methods["linear-probe"].chosen.runs.values()
        assert group.title.endswith(f"optimizer {run.record['config']['optimizer']}")


def test_runs_that_differ_in_what_is_free_alone_are_twins(tmp_path):
    for i, workers in enumerate((0, 4)):
        write_run(tmp_path, configured("ftp", data={"workers": workers}), f"run{i}")
    with pytest.raises(ReportError, match="are the same method, setting and seed"):
        gather([tmp_path])


def test_a_title_names_the_first_of_many_differences(tmp_path):
    tests = {f"set{i}": f"mine:set{i}" for i in range(9)}
    found = grouped(
        tmp_path, configured("fine-tune"), configured("ftp", data={"tests": tests})
    )
    words = ", ".join(f"tests set{i} mine:set{i}" for i in range(4))
    assert found == {TITLE: {"fine-tune"}, f"{TITLE}, {words}, 5 more": {"ftp"}}
