"""One task after the other: what each begins with, what is held, what is remembered."""

import json

import numpy as np
import pytest

from experiments import continual, records, studies, train
from experiments.configs.studies import pairs, sequence, study
from experiments.configs.values import SettingError
from experiments.data import DataError
from experiments.data.sources import open_source
from experiments.files import RecordError
from experiments.progress import Interrupted
from experiments.report.frame import groups
from experiments.report.plots import plots
from experiments.report.sentences import sentences
from experiments.report.tables import tables
from experiments.start import Shared
from mocked_runs import QUIET, small_config, stop_at

pytestmark = pytest.mark.usefixtures("mocked_data")


def by_class(classes_per_task=4, new_anchor=True, **changes):
    """Three tasks of the ten classes of CIFAR-10: 4, 4 and 2."""
    config = small_config(**{"method": "ftp", "learning_rate": 1e-2, **changes})
    config.evaluation.tests = {"id": "cifar10:test"}
    return sequence(config, classes_per_task=classes_per_task, new_anchor=new_anchor)


def by_domain(**changes):
    """Two tasks: the splits of CIFAR-10, as if they were domains."""
    config = small_config(**{"method": "ftp", "learning_rate": 1e-2, **changes})
    config.data.train = config.data.validation = "cifar10:{domain}"
    config.evaluation.tests = {"id": "cifar10:{domain}"}
    return sequence(config, domains=("train", "test"), new_anchor=True)


def test_images_of_some_classes_are_taken_and_labelled_anew():
    whole = open_source("cifar10:test", most_bytes=10**9)
    names = ("8", "3", "6")
    some = whole.of_classes(names)
    assert (some.class_names, some.num_classes) == (names, 3)
    assert len(some) == sum(whole.class_names[i] in names for i in whole.labels) > 0
    by_name = [
        i for i in range(len(whole)) if whole.class_names[whole.labels[i]] in names
    ]
    for mine, theirs in zip(range(len(some)), by_name, strict=True):
        assert some[mine]["label"] == some.labels[mine]
        assert names[some[mine]["label"]] == whole.class_names[whole[theirs]["label"]]
        assert some[mine]["image"] is whole[theirs]["image"]  # decoded once
    last = some.of_classes((), "2:3")
    assert last.occurring == (False, False, True)
    assert last.name == "cifar10:test#2:3"  # which tells it from other parts
    for classes, part, message in (
        (("7", "unicorn"), "", "data.classes: cifar10:test has no unicorn"),
        ((), "4:11", "expected a part of the 10 classes"),
        ((), "two", "expected a part of the 10 classes"),
    ):
        with pytest.raises(DataError, match=message):
            whole.of_classes(classes, part)


def test_the_classes_of_the_tasks_are_drawn_with_the_seed_and_cut_in_order():
    every = [continual.tasks(by_class(seed=seed), Shared()) for seed in (0, 0, 1)]
    assert every[0] == every[1]
    assert every[0][-1].classes != every[2][-1].classes
    assert len({*every[0][-1].classes}) == 10  # all occur
    assert [task.train for task in every[0]] == [
        f"cifar10:train#{part}" for part in ("0:4", "4:8", "8:10")
    ]
    for before, after in zip(every[0], every[0][1:], strict=False):
        assert after.classes[: len(before.classes)] == before.classes


def test_a_head_grows_by_the_classes_of_each_task(tmp_path):
    record = continual.run(by_class(), tmp_path / "run", QUIET)
    before, after = (
        json.loads((tmp_path / f"run/task-{i}/metrics.json").read_text())
        for i in (1, 2)
    )
    setup = train.set_up(
        continual.of_task(
            by_class(), continual.tasks(by_class(), Shared()), 1, tmp_path / "run"
        )
    )
    head = setup.start.params["head"]
    assert head["kernel"].shape[-1] == 8
    assert np.any(head["kernel"][:, :4])
    assert not np.any(head["kernel"][:, 4:])
    assert setup.start.new == ("^head/",)
    assert setup.training.allowed == (False,) * 4 + setup.train.occurring[4:]
    assert before["evaluation"].keys() == {"task 1"}
    assert after["evaluation"].keys() == {"task 1", "task 2"}
    assert record["tasks"]["task 3"][:2] == [None, None]
    assert record["tasks"]["task 1"][0] == before["evaluation"]["task 1"]["accuracy"]
    assert record["tasks"]["task 1"][1] == after["evaluation"]["task 1"]["accuracy"]
    assert record["evaluation"].keys() == {"task 1", "task 2", "task 3"}
    assert record["summary"]["id"] == pytest.approx(
        np.mean([row[-1] for row in record["tasks"].values()])
    )


def test_a_domain_begins_with_what_the_one_before_it_left_and_holds_that(tmp_path):
    config = by_domain()
    record = continual.run(config, tmp_path / "run", QUIET)
    assert [len(row) for row in record["tasks"].values()] == [2, 2]
    assert None not in [x for row in record["tasks"].values() for x in row]
    every = continual.tasks(config, Shared())
    second = continual.of_task(config, every, 1, tmp_path / "run")
    assert (second.data.train, second.data.classes) == ("cifar10:test", ())
    start = train.set_up(second).start
    left, _ = records.load_selected(
        tmp_path / "run/task-1", (start.params, start.statistics)
    )
    np.testing.assert_array_equal(
        start.params["head"]["kernel"], left["head"]["kernel"]
    )
    assert start.new == ()


@pytest.mark.parametrize("method", ["ftp", "l2-sp", "tpgm"])
def test_the_first_anchor_and_its_radii_go_on_where_no_new_one_is_taken(
    method, tmp_path
):
    config = by_domain(method=method)
    config.sequence.new_anchor = False
    continual.run(config, tmp_path / "run", QUIET)
    every = continual.tasks(config, Shared())
    tasks = [continual.of_task(config, every, i, tmp_path / "run") for i in (0, 1)]
    first, second = map(train.set_up, tasks)
    assert second.training.held.exclude == ("^head/",)
    like = train.holding(
        train.init_state(
            first.training, first.knobs, first.start.params, first.start.statistics
        ).method
    )
    kept = [
        records.load_anchor(tmp_path / f"run/task-{i}", like)[0].anchor["backbone"]
        for i in (1, 2)
    ]
    for anchor in kept:
        np.testing.assert_array_equal(
            anchor["conv1"]["kernel"], first.start.params["backbone"]["conv1"]["kernel"]
        )


def test_a_head_that_grows_is_not_in_the_first_anchor(tmp_path):
    config = by_class(new_anchor=False, start="probed head")
    assert len(continual.run(config, tmp_path / "run", QUIET)["tasks"]) == 3


def test_a_sequence_that_is_stopped_goes_on_with_the_same_numbers(
    tmp_path, monkeypatch
):
    config = by_class()
    whole = continual.run(config, tmp_path / "whole", QUIET)
    taken = stop_at(monkeypatch, 4)  # in the second task, of two steps each
    with pytest.raises(Interrupted):
        continual.run(config, tmp_path / "parts", QUIET)
    assert not (tmp_path / "parts/metrics.json").exists()
    again = continual.run(config, tmp_path / "parts", QUIET)
    assert len(taken) == 6
    assert again["tasks"] == whole["tasks"]
    assert again["evaluation"] == whole["evaluation"]


def test_methods_are_tuned_by_the_validation_sets_of_all_tasks(tmp_path):
    settings = {
        "fine-tune": pairs((1e-3, 1e-1), (None,)),
        "wise-ft": pairs((1e-2,), (0.5, 0.9)),
    }
    config = study(by_class(), settings, final_seeds=(1,))
    continual.show(config, tmp_path / "study", QUIET)
    lines = studies.read(tmp_path / "study/study.jsonl")
    assert [line["stage"] for line in lines] == ["tune"] * 4 + ["final"] * 2
    for line in lines:
        ends = [row[-1] for row in line["tasks"].values()]
        # The validation sets of these tasks are their test sets.
        assert line["id_val"] == pytest.approx(np.mean(ends))
    (final,) = [g for g in groups(lines) if g.shared.stage == "final"]
    titles = [table.title for table in tables(final)]
    assert titles.count("Task after task") == 1
    assert "tasks" in [plot.key for plot in plots(final)]
    assert any("in the last task, relative" in line for line in sentences(final))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes_per_task": 0}, "sequence: expected either classes_per_task"),
        ({"classes_per_task": 10}, "classes_per_task: expected fewer than the 10"),
        ({"method": "linear-probe"}, "method.name: linear-probe fits a head to one"),
        ({"method": "lp-ft"}, "method.name: lp-ft fits a head to one"),
        ({"wise_alphas": (0.5,)}, r"evaluation.wise_alphas: .* expected \(\), got"),
    ],
)
def test_what_is_no_sequence_is_refused(change, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        continual.run(by_class(**change), tmp_path / "run", QUIET)


def test_an_anchor_that_was_not_kept_cannot_go_on(tmp_path):
    train.run(small_config(), tmp_path / "run", QUIET)
    config = small_config(**{"method.anchor_from": str(tmp_path / "run")})
    with pytest.raises(RecordError, match=r"anchor_from: .* has kept no anchor"):
        train.run(config, tmp_path / "on", QUIET)
