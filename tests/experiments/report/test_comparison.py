"""Which runs meet in a comparison, and how those that do not are headed."""

import pytest

from experiments.files import RecordError
from experiments.report.frame import groups
from run_records import read_back, record

TITLE = "pacs: resnet18-trunk, probed head, 64 px"
METHODS = {"fine-tune": None, "ftp": 1.0, "wise-ft": 0.5, "linear-probe": 10.0}


def configured(method, /, *, seed=0, **changes):
    """A record; `changes` are the groups of its configuration."""
    rate = None if method == "linear-probe" else 1e-3
    found = record(method, rate, METHODS[method], seed)
    for group, options in changes.items():
        found["config"].setdefault(group, {}).update(options)
    return found


def grouped(*records, stage=""):
    """The methods of each comparison, by title."""
    found = groups(read_back(*records, stage=stage))
    return {group.title: set(group.chosen) for group in found}


@pytest.mark.parametrize(
    ("changes", "there", "here"),
    [
        ({"recipe": {"optimizer": "sgd"}}, "optimizer adamw", "optimizer sgd"),
        ({"recipe": {"weight_decay": 1e-4}}, "weight decay 0", "weight decay 0.0001"),
        ({"data": {"flip": False}}, "flip on", "flip off"),
        ({"data": {"scale": [0.5, 1]}}, "scale 0.7 1", "scale 0.5 1"),
        ({"model": {"dtype": "bfloat16"}}, "dtype float32", "dtype bfloat16"),
    ],
)
def test_another_training_is_another_comparison(changes, there, here):
    found = grouped(configured("fine-tune"), configured("ftp", **changes))
    assert found == {f"{TITLE}, {there}": {"fine-tune"}, f"{TITLE}, {here}": {"ftp"}}


def test_what_a_number_does_not_hang_on_keeps_runs_together():
    free = {
        "method": {"strength": 1.0, "learning_rate": 1e-2},
        "evaluation": {"observe_every": 50, "batch_size": 7},
        "io": {"weights": "elsewhere.npz", "workers": 4, "cache": False},
        # The default, which an older record had as well.
        "recipe": {"freeze_statistics": False},
    }
    found = grouped(configured("fine-tune"), configured("ftp", **free))
    assert found == {TITLE: {"fine-tune", "ftp"}}


@pytest.mark.parametrize("data_set", ["image_folder", "mask_folder", "list"])
def test_folders_of_images_are_told_apart_by_their_names(data_set):
    folders = {"fine-tune": "/here/pets", "ftp": "there/pets/", "wise-ft": "/here/cars"}
    data = {"train": f"{data_set}:train"}
    runs = [
        configured(method, data=data, io={"source_dir": folder})
        for method, folder in folders.items()
    ]
    assert grouped(*runs) == {
        f"{TITLE}, source dir cars": {"wise-ft"},
        f"{TITLE}, source dir pets": {"fine-tune", "ftp"},
    }


def test_a_probe_is_compared_with_every_training_of_its_data():
    found = grouped(
        configured("fine-tune"),
        configured("ftp", recipe={"optimizer": "sgd"}),
        configured("linear-probe", recipe={"epochs": 9}),
        configured("linear-probe", evaluation={"limit": 100}, seed=1),
    )
    assert set(map(frozenset, found.values())) == {
        frozenset({"fine-tune", "linear-probe"}),
        frozenset({"ftp", "linear-probe"}),
        frozenset({"linear-probe"}),  # of other data
    }
    (alone,) = (title for title, methods in found.items() if len(methods) == 1)
    assert "limit 100" in alone


def test_a_run_in_two_places_counts_once_and_is_refused_with_other_figures():
    runs = [configured("ftp", io={"workers": n}) for n in (0, 4)]
    (group,) = groups(read_back(*runs))
    assert len(group.runs) == 1
    runs[1]["id_val"] += 0.1
    with pytest.raises(RecordError, match=r"0 and 1 are the same method, .* figures"):
        grouped(*runs)


def test_a_title_names_the_first_of_many_differences():
    tests = {f"set{i}": f"mine:set{i}" for i in range(9)}
    found = grouped(
        configured("fine-tune"), configured("ftp", evaluation={"tests": tests})
    )
    words = ", ".join(f"tests set{i} mine:set{i}" for i in range(4))
    assert found == {TITLE: {"fine-tune"}, f"{TITLE}, {words}, 5 more": {"ftp"}}


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"model": "vit"}, "pacs: vit, probed head, 64 px"),
        ({"name": "camvid"}, "camvid: resnet18-trunk, probed head, 64 px"),
        ({"name": "pacs resnet18-trunk probed"}, TITLE),
        ({"image_size": [120, 160]}, "pacs: resnet18-trunk, probed head, 120 x 160 px"),
        # LP-FT probes the head first in any case: what was asked for counts.
        ({"method": "lp-ft", "start": "new head"}, TITLE),
    ],
)
def test_a_title_says_data_model_start_and_size(change, title):
    assert [*grouped(configured("ftp") | change)] == [title]
    assert [*grouped(configured("ftp") | change, stage="tune")] == [f"{title}, tuning"]
