"""The quickstart's digits: one task shown cleanly, and in seventeen other ways.

Nothing is downloaded and no folder is needed: the images ship with scikit-learn, and
`experiments.quickstart.digits` splits them and shows them in a domain. The splits:

  broad      the images kept for pre-training, 4 times in each of 8 appearances
  broad_val  the images of `train`, once in each of these appearances: it selects a
             pre-training, which has seen none of them, and leaves `val` untouched
  train      to fine-tune on, clean
  val        to select by, clean
  clean      to test on, clean; the same images make up each of the following
  inverted, cluttered, ...  the appearances, which the pre-training has seen
  gaussian_noise, fog, ...  the corruptions, which no training has seen
"""

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.datasets.folders import Listing, Picture
from experiments.datasets.preparing import FolderBuilder
from experiments.quickstart import digits
from experiments.quickstart.digits import HELD_OUT, KEPT, SIDE, TARGET

DOMAINS = (TARGET, *KEPT, *HELD_OUT)
CLASSES = tuple("0123456789")
COPIES = 4  # draws of each image in each appearance, of `broad`
# Those of the quickstart, whose images these are.
POOL_SEED, TEST_SEED = 100, 7
HELD_OUT_POOL_SEED = 200


class Digits(FolderBuilder):
    """Features `image`, uint8 (16, 16, 3), grey, and `label`.

    The folder it reads is imagined: paths name images that are drawn in memory.
    """

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    LAYOUT = "<split>/<class>/<number>.png"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "None: the images are drawn."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, clean, in 8 appearances, 9 corruptions.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            citation="Alpaydin and Kaynak, Optical recognition of handwritten digits",
        )

    def mark(self, listing: Listing, root: Path) -> str:
        return "drawn"

    def listing(self, root: Path) -> Listing:
        return {
            name: [
                Picture(root / name / str(label) / f"{i:05}.png", str(label))
                for i, label in enumerate(split.labels)
            ]
            for name, split in splits().items()
        }

    def example(self, picture: Picture) -> dict[str, Any]:
        split, _, number = picture.path.with_suffix("").parts[-3:]
        image = splits()[split].images[int(number)]
        return {"image": _png(image), "label": picture.target}


@functools.cache
def splits() -> dict[str, digits.Split]:
    """Every split by name, images `(n, SIDE, SIDE)`, float32 in [0, 1]."""
    parts = digits.load_splits()
    test = parts["test"]
    shown = {
        domain: test._replace(images=digits.render(test.images, domain, TEST_SEED))
        for domain in DOMAINS
    }
    return {
        "broad": digits.pool(parts["pretrain"], KEPT, COPIES, POOL_SEED),
        "broad_val": digits.pool(parts["train"], KEPT, 1, HELD_OUT_POOL_SEED),
        "train": parts["train"],
        "val": parts["val"],
        **shown,
    }


def _png(image: np.ndarray) -> bytes:
    """A grey image `(h, w)`, float32 in [0, 1], as the bytes of an RGB file."""
    pixels = np.round(255 * image).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=-1)).save(file, "png")
    return file.getvalue()
