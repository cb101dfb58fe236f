"""Decodes the records of a data set, and keeps what was decoded."""

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from experiments.data import DataError

MOST_BYTES = 4 * 2**30  # of decoded images that are kept: 36 MB for 12 megapixels

Record = Mapping[str, Any]


def mirrored(field: np.ndarray) -> np.ndarray:
    """A field `(h, w, ...)`, left and right exchanged."""
    return field[:, ::-1]


@dataclasses.dataclass(frozen=True)
class Target:
    """What there is to predict, as an example holds it beside the image.

    Attributes:
      name: its key in an example.
      decode: from a feature of the data set to the value; how a data set holds a target
        makes no other one of it.
      dense: one value a pixel, `(h, w, ...)`, which moves with the image; not one an
        image.
      kind: of the feature that holds it, where TFDS has it under any name.
      mirrored: of a dense one, what it is when its image is mirrored.
    """

    name: str
    decode: Callable[[Any], Any] = dataclasses.field(compare=False)
    dense: bool = True
    kind: type | None = None
    mirrored: Callable[[np.ndarray], np.ndarray] = mirrored


class Examples:
    """Decodes records, and keeps what it decoded until the memory it may take is full.

    A copy in another process starts empty, with the same allowance.

    Attributes:
      records: an image each, as `decoded` takes it, and what the target is decoded
        from.
    """

    def __init__(
        self,
        records: Sequence[Record],
        target: Target,
        feature: str,
        most_bytes: int = 0,
    ):
        """Keeps `most_bytes`; `feature` is what the target is decoded from."""
        self.records = records
        self._target, self._feature = target, feature
        self._kept: dict[int, dict[str, Any]] = {}
        self._left = self._most = most_bytes

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`(n,)`, int32; read without decoding an image."""
        return np.array([record[LABEL.name] for record in self.records], np.int32)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        example = self._decoded(index)
        size = sum(np.asarray(value).nbytes for value in example.values())
        if size <= self._left:
            self._left -= size
            self._kept[index] = example
        return example

    def _decoded(self, index: int) -> dict[str, Any]:
        try:
            record = self.records[index]
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"Example {index} cannot be read: {error}.") from error
        image = decoded(record["image"], "RGB")
        value = self._target.decode(record[self._feature])
        if self._target.dense and value.shape[:2] != image.shape[:2]:
            raise DataError(
                f"{named(record[self._feature])} is of {value.shape[:2]} pixels, but "
                f"its image of {image.shape[:2]}."
            )
        return {"image": image, self._target.name: value}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_left": self._most}


def decoded(image: bytes | Path | np.ndarray, mode: Literal["RGB", "L"]) -> np.ndarray:
    """Pixels, uint8, (h, w, 3) for RGB, (h, w) for L, upright.

    Args:
      image: pixels, or a file or its bytes.
      mode: L of a mask, whose values are classes.

    Raises:
      DataError: if it is no image that can be read to its end, or no mask.
    """
    if isinstance(image, np.ndarray):
        if mode == "L":
            return image.reshape(image.shape[:2])
        return np.broadcast_to(image, (*image.shape[:2], 3))
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as f:
            opened = ImageOps.exif_transpose(f)  # cameras note how they were held
    except Exception as error:  # each of Pillow's decoders raises what it likes
        raise DataError(
            f"{named(image)} is not an image that can be read ({error}). Replace or "
            "remove it."
        ) from error
    if mode == "RGB" and opened.mode.startswith("I"):  # 16 bits; PIL would clip
        grey = np.round(np.asarray(opened) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if mode == "L" and opened.mode not in ("L", "P"):
        raise DataError(
            f"{named(image)} has the mode {opened.mode}; a mask has one channel of 8 "
            "bits whose values are the classes."
        )
    # A palette image's indices are the labels; its colours are not.
    return np.array(opened if mode == "L" else opened.convert(mode))


def named(feature: Any) -> Any:
    """The file that a feature is read from, for messages."""
    file = feature[0] if isinstance(feature, tuple) else feature
    return file if isinstance(file, Path) else "What was prepared"


def _mask(image: bytes | Path | np.ndarray) -> np.ndarray:
    return decoded(image, "L")


# ---- Surface normals -----------------------------------------------------------------


def unit_vectors(value: Any) -> np.ndarray:
    """Normals `(h, w, 3)`, float32, of length 1, or 0 where there is none.

    Args:
      value: float, or the usual colours, `255 (n + 1) / 2`, in which black pixels have
        none. x points right in the image.
    """
    field = value if isinstance(value, np.ndarray) else decoded(value, "RGB")
    if field.dtype == np.uint8:
        known = field.any(-1, keepdims=True)
        field = np.where(known, field / np.float32(127.5) - 1, 0)
    field = np.nan_to_num(field.astype(np.float32))
    length = np.linalg.norm(field, axis=-1, keepdims=True)
    return field / np.where(length > 0, length, 1)


def mirrored_vectors(field: np.ndarray) -> np.ndarray:
    """Left and right exchanged, in the image and in every vector."""
    return field[:, ::-1] * np.array([-1, 1, 1], field.dtype)


LABEL = Target("label", decode=int, dense=False)
MASK = Target("segmentation", decode=_mask, kind=tfds.features.LabeledImage)
# A mirrored image has the opposite x; what has length 0 is unknown and never counts.
NORMALS = Target("normals", decode=unit_vectors, mirrored=mirrored_vectors)
