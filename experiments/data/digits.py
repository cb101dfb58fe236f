"""Scikit-learn's handwritten digits: one task shown cleanly, and in 17 other ways.

Nothing is downloaded and no folder is needed: the 1,797 images ship with scikit-learn.
They are drawn at 8 x 8 pixels and enlarged to 16 x 16, which leaves room for texture.
The splits:

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
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from experiments.data.digit_looks import APPEARANCES, CORRUPTIONS
from experiments.data.folders import DataSet, Listing

SIDE = 16  # pixels
SIZES = {"pretrain": 300, "train": 600, "val": 350, "test": 547}  # images a split

CLEAN = "clean"
KEPT = tuple(name for name in APPEARANCES if name != CLEAN)  # seen in pre-training
HELD_OUT = tuple(CORRUPTIONS)  # never trained on
DOMAINS = (CLEAN, *KEPT, *HELD_OUT)
CLASSES = tuple("0123456789")
COPIES = 4  # draws of each image in each appearance, of `broad`
POOL_SEED, HELD_OUT_POOL_SEED, TEST_SEED = 100, 200, 7


class Split(NamedTuple):
    """Part of the data: `images` and `labels` of the same length.

    Attributes:
      images: `(n, SIDE, SIDE)`, float32 in [0, 1].
      labels: `(n,)`, int32.
      source: `(n,)`, the position of each image in scikit-learn's order.
    """

    images: np.ndarray
    labels: np.ndarray
    source: np.ndarray


def load_splits() -> dict[str, Split]:
    """Loads the clean digits and splits them by image, stratified by class.

    Returns:
      Disjoint splits of the sizes in `SIZES`: images to pre-train on, and for the
      narrow task images to train on, to choose settings by, and to test on.
    """
    raw: Any = load_digits()
    images: Any = ndimage.zoom(
        raw.images / 16.0, (1, 2, 2), order=1, grid_mode=True, mode="nearest"
    )
    images = np.clip(images, 0.0, 1.0).astype(np.float32)
    labels = raw.target.astype(np.int32)

    splits, rest = {}, np.arange(len(labels))
    for name, size in SIZES.items():
        source = rest
        if size < len(rest):
            parts = train_test_split(
                rest, train_size=size, stratify=labels[rest], random_state=0
            )
            source, rest = map(np.asarray, parts)
        splits[name] = Split(images[source], labels[source], source)
    return splits


def render(images: np.ndarray, domain: str, seed: int) -> np.ndarray:
    """Shows clean images in one domain, an appearance or a corruption.

    Args:
      images: `(n, SIDE, SIDE)`, float32 in [0, 1].
      domain: a key of `APPEARANCES` or of `CORRUPTIONS`.
      seed: of the random part; domains draw independently of each other.

    Returns:
      New images of the same shape and range.
    """
    change = (APPEARANCES | CORRUPTIONS)[domain]
    rng = np.random.default_rng([seed, zlib.crc32(domain.encode())])
    return np.clip(change(images, rng), 0.0, 1.0).astype(np.float32)


def pool(split: Split, domains: Sequence[str], copies: int, seed: int) -> Split:
    """One split in several domains, each image drawn `copies` times in each domain."""
    images = [
        render(split.images, domain, seed + copy)
        for copy in range(copies)
        for domain in domains
    ]
    times = len(images)
    return Split(
        np.concatenate(images),
        np.tile(split.labels, times),
        np.tile(split.source, times),
    )


@functools.cache
def splits() -> dict[str, Split]:
    """Every split by name, images `(n, SIDE, SIDE)`, float32 in [0, 1]."""
    parts = load_splits()
    test = parts["test"]
    tests = {
        domain: test._replace(images=render(test.images, domain, TEST_SEED))
        for domain in DOMAINS
    }
    return {
        "broad": pool(parts["pretrain"], KEPT, COPIES, POOL_SEED),
        "broad_val": pool(parts["train"], KEPT, 1, HELD_OUT_POOL_SEED),
        "train": parts["train"],
        "val": parts["val"],
        **tests,
    }


@functools.cache
def listing(root: Path) -> Listing:
    """Every split, grey images `(SIDE, SIDE, 1)`, uint8."""
    del root
    return Listing(
        CLASSES,
        {
            name: [
                {
                    "name": f"{name}/{label}/{i:05}.png".encode(),
                    "image": np.round(255 * image[..., None]).astype(np.uint8),
                    "label": label,
                }
                for i, (image, label) in enumerate(
                    zip(split.images, split.labels, strict=True)
                )
            ]
            for name, split in splits().items()
        },
    )


DATA_SET = DataSet(listing)
