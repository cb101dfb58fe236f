"""Surface normals: a unit vector for every pixel, measured by angles: less is better.

Reference: Fouhey, Gupta and Hebert, "Data-driven 3D primitives for single image
understanding", ICCV 2013, whose figures these are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.examples import NORMALS
from experiments.models.backbone import Segmenter
from experiments.tasks.task import Features, Head, Metric, Probe, Task

UNDER = (11.25, 22.5, 30.0)  # degrees
BINS = 1800  # of the histogram that the median is read off, a tenth of a degree each
# The cosine of an output shorter than this is damped, so that a new head, which gives
# zeros, has a gradient.
SHORT = 0.1


def is_known(normals: Any) -> Any:
    """`(...)`, bool: which of the normals `(..., 3)` count."""
    return (normals != 0).any(-1)


def angles(vectors: jax.Array, normals: jax.Array) -> jax.Array:
    """Degrees between vectors of any length and normals, exact for small ones too."""
    # What is no number is as wrong as can be.
    vectors = jnp.where(jnp.isfinite(vectors).all(-1, keepdims=True), vectors, -normals)
    sine = jnp.linalg.norm(jnp.cross(vectors, normals), axis=-1)
    return jnp.degrees(jnp.arctan2(sine, jnp.sum(vectors * normals, -1)))


def mean_over_known(values: jax.Array, normals: jax.Array) -> jax.Array:
    known = is_known(normals)
    return jnp.sum(jnp.where(known, values, 0)) / jnp.maximum(jnp.sum(known), 1)


def cosine_loss(outputs: jax.Array, normals: jax.Array, smoothing: float) -> jax.Array:
    """Mean of one less the cosine of the angle; there are no classes to smooth over."""
    del smoothing
    length = jnp.sqrt(jnp.sum(outputs**2, -1) + SHORT**2)
    return mean_over_known(1 - jnp.sum(outputs * normals, -1) / length, normals)


def mean_angle(outputs: jax.Array, normals: jax.Array) -> jax.Array:
    """Degrees, over the pixels of a batch that count."""
    return mean_over_known(angles(outputs, normals), normals)


class Tally(NamedTuple):
    """Sums over pixels; those of two batches add up.

    Attributes:
      histogram: `(BINS,)`, int32, pixels by angle.
      under: `(3,)`, int32, pixels under each angle of `UNDER`.
      total: `()`, float32, the sum of angles in degrees.
      squares: `()`, float32, the sum of their squares.
      images: `()`, int32, how many images were seen.
    """

    histogram: jax.Array
    under: jax.Array
    total: jax.Array
    squares: jax.Array
    images: jax.Array


def tally(outputs: jax.Array, normals: jax.Array, mask: jax.Array) -> Tally:
    """Counts one batch: outputs and normals `(n, h, w, 3)`, mask `(n,)`."""
    counts = is_known(normals) & mask[:, None, None]
    degrees = jnp.where(counts, angles(outputs, normals), 0)
    bins = jnp.minimum((degrees * (BINS / 180)).astype(jnp.int32), BINS - 1)
    limits = jnp.array(UNDER).reshape(-1, 1, 1, 1)
    return Tally(
        histogram=jnp.zeros(BINS, jnp.int32).at[bins].add(counts.astype(jnp.int32)),
        under=jnp.sum(counts[None] & (degrees[None] < limits), (1, 2, 3)),
        total=jnp.sum(degrees),
        squares=jnp.sum(degrees**2),
        images=jnp.sum(mask.astype(jnp.int32)),
    )


def figures(total: Tally) -> dict[str, float]:
    """The figures of a tally.

    Returns:
      `mean_angle`, `median_angle` and `rms_angle`, degrees; `under_11.25`, `under_22.5`
      and `under_30`, shares in [0, 1] of the pixels that are less wrong; `images`.

    Raises:
      ValueError: nothing was counted.
    """
    histogram = np.asarray(total.histogram, np.float64)
    counted = histogram.sum()
    if counted == 0:
        raise ValueError("nothing to measure: no image has a normal that counts.")
    shares = np.asarray(total.under, np.float64) / counted
    return {
        "mean_angle": float(total.total / counted),
        "median_angle": _median(histogram) * 180 / BINS,
        "rms_angle": float(np.sqrt(total.squares / counted)),
        **{f"under_{a:g}": float(s) for a, s in zip(UNDER, shares, strict=True)},
        "images": int(total.images),
    }


def _median(histogram: np.ndarray) -> float:
    """In bins, as if the values of a bin were spread evenly over it."""
    below, half = np.cumsum(histogram), histogram.sum() / 2
    bin = int(np.searchsorted(below, half))
    return float(bin + 1 - (below[bin] - half) / histogram[bin])


# ---- A head fitted at once ---------------------------------------------------------


def known(normals: np.ndarray, outputs: int) -> np.ndarray:
    del outputs
    return is_known(normals)


def require_examples(features: Features) -> None:
    """Raises a `ValueError` if there is nothing to fit."""
    if not len(features.targets):
        raise ValueError("a head is probed on pixels with a normal, got none")


def ridge_regression(features: Features, outputs: int, strength: float) -> Head:
    """Least squares on standardised features; `strength` is the inverse penalty."""
    vectors = np.asarray(features.vectors, np.float64)
    mean, scale = vectors.mean(0), vectors.std(0)
    scale = np.where(scale > 0, scale, 1)
    x, y = (vectors - mean) / scale, np.asarray(features.targets, np.float64)
    gram = x.T @ x + np.eye(x.shape[1]) / strength
    kernel = np.linalg.solve(gram, x.T @ (y - y.mean(0))) / scale[:, None]
    bias = y.mean(0) - mean @ kernel
    assert kernel.shape[1] == outputs
    return Head(kernel.astype(np.float32), bias.astype(np.float32))


def closeness(head: Head, features: Features) -> float:
    """Less the mean angle, in degrees: more is better."""
    vectors = features.vectors @ head.kernel + head.bias
    return -float(mean_angle(jnp.asarray(vectors), jnp.asarray(features.targets)))


TASK = Task(
    name="surface normals",
    target=NORMALS,
    head=Segmenter,
    loss=cosine_loss,
    tally=tally,
    figures=figures,
    glance=("mean_angle", mean_angle),
    metric=Metric("mean_angle", higher_is_better=False, unit="°"),
    probe=Probe(known, require_examples, ridge_regression, closeness),
    width=3,
)
