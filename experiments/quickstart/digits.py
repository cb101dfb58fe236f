"""Scikit-learn's handwritten digits, split by image and shown in many domains.

The 1,797 images ship with scikit-learn, so nothing is downloaded. They are drawn at
8 x 8 pixels and enlarged to 16 x 16, which leaves room for texture.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from experiments.quickstart.appearances import APPEARANCES
from experiments.quickstart.corruptions import CORRUPTIONS

SIDE = 16  # pixels
SPLITS = {"pretrain": 300, "train": 600, "val": 350, "test": 547}  # images

TARGET = "clean"
KEPT = tuple(name for name in APPEARANCES if name != TARGET)  # seen in pre-training
HELD_OUT = tuple(CORRUPTIONS)  # never trained on


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


def load_splits(seed: int = 0) -> dict[str, Split]:
    """Loads the clean digits and splits them by image, stratified by class.

    Args:
      seed: of the split; the same seed gives the same split.

    Returns:
      Disjoint splits of the sizes in `SPLITS`: images to pre-train on, and for the
      narrow task images to train on, to choose settings by, and to test on.
    """
    raw: Any = load_digits()
    images: Any = ndimage.zoom(
        raw.images / 16.0, (1, 2, 2), order=1, grid_mode=True, mode="nearest"
    )
    images = np.clip(images, 0.0, 1.0).astype(np.float32)
    labels = raw.target.astype(np.int32)

    splits, rest = {}, np.arange(len(labels))
    for name, size in SPLITS.items():
        source = rest
        if size < len(rest):
            parts = train_test_split(
                rest, train_size=size, stratify=labels[rest], random_state=seed
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
    return change(images, np.random.default_rng([seed, zlib.crc32(domain.encode())]))


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
