"""A linear head on the trunk's features: logistic regression, fitted once."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from experiments.data.batches import evaluation_batches
from experiments.data.sources import Source
from experiments.methods import Params
from experiments.placement import Placement
from experiments.views import View

STRENGTHS = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)  # scikit-learn's C, less is stronger
EXAMPLES = 20_000  # at most, images or pixels of the training set, that the fit sees


class Features(NamedTuple):
    """What the head sees, `(n, channels)` float32, and the labels `(n,)` int32."""

    inputs: np.ndarray
    labels: np.ndarray


class Head(NamedTuple):
    """A linear layer: kernel `(channels, classes)` and bias `(classes,)`, float32."""

    kernel: np.ndarray
    bias: np.ndarray


@functools.partial(jax.jit, static_argnames="graphdef")
def _features(
    graphdef: nnx.GraphDef, params: Params, statistics: Params, images: jax.Array
) -> jax.Array:
    model: Any = nnx.merge(graphdef, params, statistics)
    return model.features(images, train=False)


def extract(
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    source: Source,
    view: View,
    placement: Placement,
) -> Features:
    """The features of a data set, as at evaluation: one row an image, or a pixel.

    Of a segmentation map every feature pixel takes the label of the image pixel at its
    centre; those without a class are left out.
    """
    inputs, labels = [], []
    batches = evaluation_batches(
        source,
        batch_size=view.batch_size,
        image_size=view.image_size,
        resize=view.resize,
        limit=view.limit or None,
    )
    for batch in batches:
        placed = placement.batch(batch)
        found = _features(graphdef, params, statistics, placed["image"])
        found, mask = np.asarray(jax.device_get(found)), batch["mask"]
        inputs.append(found[mask].reshape(-1, found.shape[-1]))
        if "label" in batch:
            labels.append(batch["label"][mask])
        else:
            labels.append(_centres(batch["segmentation"], found.shape[1:3])[mask])
    all_labels = np.concatenate([part.reshape(-1) for part in labels])
    counts = all_labels < source.num_classes
    return Features(np.concatenate(inputs)[counts], all_labels[counts])


def _centres(masks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Masks `(n, h, w)` seen at the centres of a grid of `shape`."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(int)
        for cells, pixels in zip(shape, masks.shape[1:], strict=True)
    )
    return masks[:, rows][:, :, columns]


def thinned(features: Features) -> Features:
    """At most `EXAMPLES` of them, drawn evenly."""
    if len(features.labels) <= EXAMPLES:
        return features
    every = np.linspace(0, len(features.labels) - 1, EXAMPLES).astype(int)
    return Features(features.inputs[every], features.labels[every])


def fit(features: Features, num_classes: int, strength: float) -> Head:
    """Multinomial logistic regression on standardised features.

    Args:
      features: of the training set.
      num_classes: of the head; a class without examples is never predicted.
      strength: scikit-learn's `C`, the inverse of the L2 penalty.

    Returns:
      The head for features as they are, not standardised.
    """
    scaler = StandardScaler().fit(features.inputs)
    model: Any = LogisticRegression(C=strength, max_iter=2000)
    with threadpool_limits(1):  # on a busy machine more threads wait for each other
        model.fit(scaler.transform(features.inputs), features.labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    scale: Any = scaler.scale_
    kernel = np.zeros((features.inputs.shape[1], num_classes), np.float32)
    kernel[:, model.classes_] = (coefficients / scale).T
    shifted = intercepts - coefficients @ (scaler.mean_ / scale)
    bias = np.full(num_classes, shifted.min() - 10.0)  # of classes without examples
    bias[model.classes_] = shifted
    return Head(kernel, bias.astype(np.float32))


def accuracy(head: Head, features: Features) -> float:
    """The share of features that the head gives the right class."""
    predicted = (features.inputs @ head.kernel + head.bias).argmax(-1)
    return float(np.mean(predicted == features.labels))


def best(train: Features, validation: Features, num_classes: int) -> tuple[Head, float]:
    """The head of the strength with the best validation accuracy, and that strength.

    Of equals the strongest penalty wins.
    """
    heads = {c: fit(train, num_classes, c) for c in STRENGTHS}
    scores = {c: accuracy(head, validation) for c, head in heads.items()}
    chosen = max(STRENGTHS, key=lambda c: scores[c])
    return heads[chosen], chosen
