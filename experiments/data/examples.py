"""Decodes the records of a data set, and keeps what was decoded."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

MOST_BYTES = 4 * 2**30  # of decoded images that a cache keeps: 36 MB for 12 megapixels


def same_name(features: Mapping[str, Any], name: str) -> str | None:
    """The feature that is called as the target is."""
    return name if name in features else None


def mirrored(field: np.ndarray) -> np.ndarray:
    """A field `(h, w, ...)`, left and right exchanged."""
    return field[:, ::-1]


@dataclasses.dataclass(frozen=True)
class Target:
    """What there is to predict, as an example holds it beside the image.

    Attributes:
      name: its key in an example.
      decode: from a feature of the data set to the value.
      dense: one value a pixel, `(h, w, ...)`, which moves with the image; not one an
        image.
      feature: (features of the data set, name) -> the one that holds it, if any.
      mirrored: of a dense one, what it is when its image is mirrored.
    """

    name: str
    decode: Callable[[Any], Any]
    dense: bool = True
    feature: Callable[[Mapping[str, Any], str], str | None] = same_name
    mirrored: Callable[[np.ndarray], np.ndarray] = mirrored


class Examples:
    """Decodes records."""

    def __init__(self, records: Sequence[dict[str, Any]], target: Target, feature: str):
        self.records = records
        self._target = target
        self._feature = feature  # of the records, what the target is decoded from

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        value = self._target.decode(record[self._feature])
        return {"image": decoded(record["image"], "RGB"), self._target.name: value}


class Cache:
    """Keeps each example it was asked for, until they fill the memory they may take.

    From then on what is not kept is decoded each time it is asked for. A copy in
    another process starts empty, with the same allowance.
    """

    def __init__(self, examples: "Examples | Cache", most_bytes: int = MOST_BYTES):
        self._examples = examples
        self.records = examples.records
        self._kept: dict[int, dict[str, Any]] = {}
        self._left = self._most = most_bytes

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        example = self._examples[index]
        size = sum(np.asarray(value).nbytes for value in example.values())
        if size <= self._left:
            self._left -= size
            self._kept[index] = example
        return example

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_left": self._most}


def decoded(image: bytes | np.ndarray, mode: Literal["RGB", "L"]) -> np.ndarray:
    """uint8, (h, w, 3) for RGB, (h, w) for L."""
    if isinstance(image, bytes):
        opened = Image.open(io.BytesIO(image))
        if mode == "RGB" and opened.mode.startswith("I"):  # 16 bits; PIL would clip
            grey = np.round(np.asarray(opened) / 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        # A palette image's indices are the labels; its colours are not.
        keep = opened.mode == mode or (mode == "L" and opened.mode == "P")
        return np.array(opened if keep else opened.convert(mode))
    if mode == "L":
        return image.reshape(image.shape[:2])
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _mask(image: bytes | np.ndarray) -> np.ndarray:
    return decoded(image, "L")


def _labelled_image(features: Mapping[str, Any], name: str) -> str | None:
    """Data sets call their masks as they like; what they are is in the type."""
    del name
    kind = tfds.features.LabeledImage
    return next((name for name, f in features.items() if isinstance(f, kind)), None)


LABEL = Target("label", decode=int, dense=False)
MASK = Target("segmentation", decode=_mask, feature=_labelled_image)
