"""The figure that a record puts first: its unit, and whether more of it is better."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """The headline figure of a record.

    Attributes:
      name: its key in the evaluation.
      higher_is_better: or less is, as of an angle.
      unit: "%" of a share, which the record holds in [0, 1]; else as it is shown.
    """

    name: str
    higher_is_better: bool = True
    unit: str = "%"

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").replace(" iou", " IoU")

    @property
    def scale(self) -> float:
        """What a number of the record is multiplied by where it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    def score(self, value: float | None) -> float:
        """A number of which more is better; a missing one is worse than any."""
        if value is None:
            return -float("inf")
        return value if self.higher_is_better else -value


def metric(record: Mapping[str, Any]) -> Metric:
    """The headline figure; a record that only names it has a share, more being better.

    >>> metric({"metric": "accuracy"})
    Metric(name='accuracy', higher_is_better=True, unit='%')
    >>> angle = {"name": "angle", "higher_is_better": False, "unit": "°"}
    >>> metric({"metric": angle}).score(20.0)
    -20.0
    """
    found = record["metric"]
    described = found if isinstance(found, Mapping) else {**record, "name": found}
    unit = described.get("unit") or "%"
    return Metric(
        described.get("name", ""),
        described.get("higher_is_better", True),
        "%" if unit == "share" else unit,
    )


def selection_score(record: Mapping[str, Any]) -> float:
    """What settings are chosen by: ID validation; of a diverged run worse than any."""
    diverged = record["status"] == "diverged"
    return metric(record).score(None if diverged else record.get("id_val"))
