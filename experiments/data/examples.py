"""Decodes the records of a data set, and keeps what was decoded."""

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

MOST_BYTES = 4 * 2**30  # of decoded images that a cache keeps: 36 MB for 12 megapixels


class Examples:
    """Decodes records."""

    def __init__(self, records: Sequence[dict[str, Any]], target: str):
        self.records = records
        self._target = target  # a feature: "label", or that of the mask

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        image = _decode(record["image"], "RGB")
        if self._target == "label":
            return {"image": image, "label": int(record["label"])}
        return {"image": image, "segmentation": _decode(record[self._target], "L")}


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


def _decode(image: bytes | np.ndarray, mode: Literal["RGB", "L"]) -> np.ndarray:
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
