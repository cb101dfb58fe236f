"""What is asked of a task, whichever direction its metric is better in."""

import math

import pytest

from experiments.data.examples import LABEL, MASK, Target
from experiments.tasks import TASKS, classification, normals, segmentation, task_of

MORE, LESS = classification.TASK, normals.TASK


def test_a_task_is_found_by_what_the_data_holds():
    assert task_of(LABEL) is classification.TASK
    assert task_of(MASK) is segmentation.TASK
    assert len({task.target for task in TASKS}) == len(TASKS)
    with pytest.raises(StopIteration):
        task_of(Target("depth", decode=float))


@pytest.mark.parametrize(
    ("task", "better", "worse"), [(MORE, 0.9, 0.1), (LESS, 10.0, 40.0)]
)
def test_only_a_better_value_replaces_another(task, better, worse):
    assert task.better(better, worse)
    assert not task.better(worse, better)
    assert not task.better(better, better), "the first of equals stays"
    assert task.better(worse, None), "anything is better than nothing"
    assert task.better(worse, math.nan)
    assert not task.better(math.nan, worse)
    assert not task.better(math.nan, math.nan)


def test_what_a_shift_leaves_of_id_is_at_most_one_in_either_direction():
    assert MORE.kept(0.4, 0.8) == pytest.approx(0.5)
    assert LESS.kept(40.0, 20.0) == pytest.approx(0.5)
    for task in (MORE, LESS):
        assert task.kept(None, 0.5) is None
        assert task.kept(0.5, None) is None
    assert MORE.kept(0.5, 0.0) is None
    assert LESS.kept(0.0, 0.5) is None


def test_a_record_says_how_its_metric_is_read():
    assert segmentation.TASK.as_recorded() == {
        "metric": "mean_iou",
        "higher_is_better": True,
        "unit": "%",
    }
    assert LESS.as_recorded()["unit"] == "°"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_can_be_a_static_argument_of_a_compiled_function(task):
    assert hash(task) == hash(task._replace(name=task.name))
