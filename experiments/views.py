"""How images are shown at evaluation."""

from typing import NamedTuple


class View(NamedTuple):
    """Sizes of what evaluation shows; hashable.

    Attributes:
      batch_size: images, over all devices.
      image_size: pixels, (height, width), of the central crop.
      resize: pixels of the shorter side before the crop; `None`: to fit.
      limit: images a data set, a fixed random choice, stratified by class where there
        are labels; 0: all.
    """

    batch_size: int
    image_size: tuple[int, int]
    resize: int | None = None
    limit: int = 0
