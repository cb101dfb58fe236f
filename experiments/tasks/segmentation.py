"""Segmentation: a class for every pixel, measured by intersection over union."""

from experiments.data.examples import MASK
from experiments.models.backbone import Segmenter
from experiments.tasks import classification
from experiments.tasks.task import Metric

TASK = classification.TASK._replace(
    name="segmentation", target=MASK, head=Segmenter, metric=Metric("mean_iou")
)
