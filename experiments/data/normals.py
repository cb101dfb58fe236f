"""Surface normals as a data set holds them, and as an example does.

A vector for every pixel, `(h, w, 3)`: float, or as the usual colours,
`255 (n + 1) / 2`, in which black pixels have none. x points right in the image, so that
a mirrored image has the opposite x. What has length 0 is unknown and never counts.
"""

from typing import Any

import numpy as np

from experiments.data.examples import Target, decoded


def unit_vectors(value: Any) -> np.ndarray:
    """`(h, w, 3)`, float32, of length 1, or 0 where there is none."""
    field = value if isinstance(value, np.ndarray) else decoded(value, "RGB")
    if field.dtype == np.uint8:
        known = field.any(-1, keepdims=True)
        field = np.where(known, field / np.float32(127.5) - 1, 0)
    field = np.nan_to_num(field.astype(np.float32))
    length = np.linalg.norm(field, axis=-1, keepdims=True)
    return field / np.where(length > 0, length, 1)


def mirrored(field: np.ndarray) -> np.ndarray:
    """Left and right exchanged, in the image and in every vector."""
    return field[:, ::-1] * np.array([-1, 1, 1], field.dtype)


NORMALS = Target("normals", decode=unit_vectors, mirrored=mirrored)
