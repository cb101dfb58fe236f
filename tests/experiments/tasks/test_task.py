"""What is asked of a task, whichever direction its metric is better in."""

import math

import pytest

from experiments.data.examples import LABEL, MASK, Target
from experiments.tasks import TASKS, classification, normals, segmentation, task_of
from experiments.tasks.task import metric, selection_score

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
def test_more_of_a_score_is_better_and_what_is_missing_is_worst(task, better, worse):
    score = task.metric.score
    assert score(better) > score(worse) > score(None) == score(math.nan)


def test_what_a_shift_leaves_of_id_is_at_most_one_in_either_direction():
    assert MORE.metric.kept(0.4, 0.8) == pytest.approx(0.5)
    assert LESS.metric.kept(40.0, 20.0) == pytest.approx(0.5)
    for task in (MORE, LESS):
        assert task.metric.kept(None, 0.5) is None
        assert task.metric.kept(0.5, None) is None
    assert MORE.metric.kept(0.5, 0.0) is None
    assert LESS.metric.kept(0.0, 0.5) is None


def test_a_record_says_how_its_metric_is_read():
    for task in TASKS:
        record = {"status": "finished", "metric": task.metric._asdict(), "id_val": 0.4}
        assert metric(record) == task.metric
        assert abs(selection_score(record)) == 0.4
        assert selection_score(record | {"status": "diverged"}) == -math.inf
        # It can be a static argument of a compiled function.
        assert hash(task) == hash(task._replace(name=task.name))
