"""What there is to predict; a new task is one file and its entry here."""

from experiments.data.examples import Target
from experiments.tasks import classification, normals, segmentation
from experiments.tasks.task import Task

# The first whose target a data set has is the one that it is for.
TASKS = (classification.TASK, segmentation.TASK, normals.TASK)
TARGETS = tuple(task.target for task in TASKS)


def task_of(target: Target) -> Task:
    """The task of predicting this target."""
    return next(task for task in TASKS if task.target == target)
