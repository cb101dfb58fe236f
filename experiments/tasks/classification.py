"""Classification: one label an image, measured by the share that is right.

The counts that add up over batches, and the figures they give, serve segmentation too,
which has one prediction a pixel.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from experiments.data.examples import LABEL
from experiments.models.backbone import Classifier
from experiments.tasks.task import Features, Head, Metric, Probe, Task

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


# ---- A head fitted at once ---------------------------------------------------------


def has_class(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Whether each label `(n,)` is that of a class."""
    return labels < num_classes


def require_two_classes(features: Features) -> None:
    """Raises a `ValueError` if there is nothing to tell apart."""
    if (classes := len(np.unique(features.targets))) < 2:
        raise ValueError(
            f"a head is probed on examples of at least two classes, got {classes}"
        )


def logistic_regression(features: Features, num_classes: int, strength: float) -> Head:
    """Multinomial logistic regression on standardised features.

    Args:
      features: of the training set.
      num_classes: of the head; a class without examples is never predicted.
      strength: scikit-learn's `C`, the inverse of the L2 penalty.

    Returns:
      The head for features as they are, not standardised.
    """
    scaler = StandardScaler().fit(features.vectors)
    model: Any = LogisticRegression(C=strength, max_iter=2000)
    with threadpool_limits(1):  # on a busy machine more threads wait for each other
        model.fit(scaler.transform(features.vectors), features.targets)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    scale: Any = scaler.scale_
    kernel = np.zeros((features.vectors.shape[1], num_classes), np.float32)
    kernel[:, model.classes_] = (coefficients / scale).T
    shifted = intercepts - coefficients @ (scaler.mean_ / scale)
    bias = np.full(num_classes, shifted.min() - 10.0)  # of classes without examples
    bias[model.classes_] = shifted
    return Head(kernel, bias.astype(np.float32))


def accuracy(head: Head, features: Features) -> float:
    """The share of features that the head gives the right class."""
    predicted = (features.vectors @ head.kernel + head.bias).argmax(-1)
    return float(np.mean(predicted == features.targets))


TASK = Task(
    name="classification",
    target=LABEL,
    head=Classifier,
    loss=mean_loss,
    tally=tally,
    figures=figures,
    glance=("accuracy", share_right),
    metric=Metric("accuracy"),
    probe=Probe(has_class, require_two_classes, logistic_regression, accuracy),
)
