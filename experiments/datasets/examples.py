"""Decodes the records of a data set, and keeps what was decoded."""

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image


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
    """Keeps each example it was asked for; a copy in another process starts empty."""

    def __init__(self, examples: "Examples | Cache"):
        self._examples = examples
        self.records = examples.records
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self._kept:
            self._kept[index] = self._examples[index]
        return self._kept[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def _decode(image: bytes | np.ndarray, mode: Literal["RGB", "L"]) -> np.ndarray:
    """uint8, (h, w, 3) for RGB, (h, w) for L."""
    if isinstance(image, bytes):
        opened = Image.open(io.BytesIO(image))
        # A palette image's indices are the labels; its colours are not.
        keep = opened.mode == mode or (mode == "L" and opened.mode == "P")
        return np.array(opened if keep else opened.convert(mode))
    if mode == "L":
        return image.reshape(image.shape[:2])
    return np.broadcast_to(image, (*image.shape[:2], 3))
