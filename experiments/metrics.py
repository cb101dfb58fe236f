"""What a model gets right: counts that add up over batches, and the figures they give.

The same counts serve classification, one prediction an image, and segmentation, one a
pixel.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

BINS = 15  # of the calibration error, of equal width


class Tally(NamedTuple):
    """Sums over predictions; those of two batches add up.

    Attributes:
      confusion: `(classes, classes)`, int32, predictions by true and predicted class.
      excess: `(BINS,)`, float32, by confidence: that of the predictions less the number
        of right ones.
      nll: `()`, float32, negative log-likelihood of the true classes, in nats.
      images: `()`, int32, how many images were seen.
    """

    confusion: jax.Array
    excess: jax.Array
    nll: jax.Array
    images: jax.Array


def tally(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Tally:
    """Counts one batch.

    Args:
      logits: `(n, ..., classes)`, float.
      labels: `(n, ...)`, integers; what lies outside [0, classes) does not count.
      mask: `(n,)`, bool; False for what only fills up the batch.
    """
    images, classes = len(mask), logits.shape[-1]
    labels, log_p = labels.reshape(images, -1), jax.nn.log_softmax(logits)
    log_p = log_p.reshape(images, -1, classes)
    counts = mask[:, None] & (labels >= 0) & (labels < classes)
    truth, predicted = jnp.where(counts, labels, 0), log_p.argmax(-1)
    nll = -jnp.take_along_axis(log_p, truth[..., None], axis=-1)[..., 0]
    # Pixels are many: counts are integers, as a float32 stops at 2^24, and confidences
    # are reduced, as adding them one by one to a large sum would round each of them.
    return Tally(
        confusion=jnp.zeros((classes, classes), jnp.int32)
        .at[truth, predicted]
        .add(counts.astype(jnp.int32)),
        excess=_excess(jnp.exp(log_p.max(-1)), predicted == truth, counts),
        nll=jnp.sum(jnp.where(counts, nll, 0)),
        images=jnp.sum(mask.astype(jnp.int32)),
    )


def _excess(confidence: jax.Array, right: jax.Array, counts: jax.Array) -> jax.Array:
    """`(BINS,)`: confidence less right ones, of the `(images, pixels)` in each bin."""
    # A confidence of 1 belongs to the last bin.
    bins = jnp.minimum((confidence * BINS).astype(jnp.int32), BINS - 1)
    gap = jnp.where(counts, confidence - right, 0)
    # Fused into the sum, so that the 15-fold is never stored.
    inside = bins[:, None] == jnp.arange(BINS)[None, :, None]
    return jnp.sum(jnp.where(inside, gap[:, None], 0), (0, 2))


def figures(total: Tally) -> dict[str, float]:
    """The figures of a tally, shares in [0, 1].

    Returns:
      `accuracy`; `macro_accuracy`, the mean recall of the classes that occur;
      `mean_iou`, the mean intersection over union of the classes that occur or are
      predicted; `ece`, the expected calibration error over `BINS` bins of equal width;
      `nll`, the mean negative log-likelihood in nats; `images`.

    Raises:
      ValueError: nothing was counted.
    """
    confusion = np.asarray(total.confusion, np.float64)
    counted = confusion.sum()
    if counted == 0:
        raise ValueError("nothing to measure: no image has a label that counts.")
    right = np.diag(confusion)
    truth, predicted = confusion.sum(1), confusion.sum(0)
    occurs, union = truth > 0, truth + predicted - right
    return {
        "accuracy": float(right.sum() / counted),
        "macro_accuracy": float(np.mean(right[occurs] / truth[occurs])),
        "mean_iou": float(np.mean(right[union > 0] / union[union > 0])),
        "ece": float(np.abs(np.asarray(total.excess, np.float64)).sum() / counted),
        "nll": float(total.nll / counted),
        "images": int(total.images),
    }


def mean_loss(
    logits: jax.Array,
    labels: jax.Array,
    smoothing: float = 0.0,
) -> jax.Array:
    """Mean cross-entropy over the labels that count, in nats.

    Args:
      logits: `(n, ..., classes)`, float32.
      labels: `(n, ...)`, integers; what lies outside [0, classes) does not count.
      smoothing: share of the target that is spread over all classes, in [0, 1).
    """
    classes = logits.shape[-1]
    counts: Any = (labels >= 0) & (labels < classes)
    # one_hot of a label that is no class is zero everywhere.
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes), smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    return jnp.sum(losses * counts) / jnp.maximum(jnp.sum(counts), 1)


def share_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share, in [0, 1], of the labels that count which the logits predict."""
    counts: Any = (labels >= 0) & (labels < logits.shape[-1])
    right = (logits.argmax(-1) == labels) & counts
    return jnp.sum(right) / jnp.maximum(jnp.sum(counts), 1)
