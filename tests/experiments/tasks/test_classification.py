"""Figures against scikit-learn's, and against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn import metrics as oracle

from experiments.tasks.classification import (
    BINS,
    figures,
    mean_loss,
    share_right,
    tally,
)


def predictions(n=200, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    return logits, rng.integers(0, classes, n).astype(np.int32)


@pytest.mark.parametrize("shape", [(200,), (2, 4, 4), (32, 200, 200), (2, 800, 800)])
def test_figures_are_those_of_scikit_learn_and_of_their_definition(shape):
    """Of what has a class; and a million pixels are summed without bias."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (*shape, 3)).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.int32)  # 3 is void
    if labels.size > 1000:  # most are sure, so that few bins hold nearly all
        logits[..., 0] += 4
        labels = np.where(rng.random(shape) < 0.95, 0, labels)
    total = jax.jit(tally)(logits, labels, np.ones(len(logits), bool))
    measured = figures(total)

    p = scipy.special.softmax(logits.astype(np.float64)[labels < 3], axis=-1)
    truth, predicted, confidence = labels[labels < 3], p.argmax(-1), p.max(-1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, confidence - (predicted == truth), BINS)
    expected = {
        "accuracy": oracle.accuracy_score(truth, predicted),
        "macro_accuracy": oracle.balanced_accuracy_score(truth, predicted),
        "mean_iou": oracle.jaccard_score(truth, predicted, average="macro"),
        "ece": np.abs(excess).sum() / len(truth),
        "nll": oracle.log_loss(truth, p),
        "images": len(logits),
    }
    np.testing.assert_array_equal(
        total.confusion, oracle.confusion_matrix(truth, predicted)
    )
    assert measured == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert share_right(logits, labels) == pytest.approx(expected["accuracy"], rel=1e-3)
    loss = mean_loss(jnp.asarray(logits), jnp.asarray(labels))
    assert loss == pytest.approx(expected["nll"], rel=1e-3)


def test_a_certain_prediction_falls_into_the_last_bin():
    logits, labels = np.array([[100.0, 0.0]], np.float32), np.array([0])
    assert tally(-logits, labels, np.ones(1, bool)).excess[-1] == 1  # all too sure


def test_batches_add_up_and_what_only_fills_them_does_not_count():
    logits, labels = predictions()
    whole = tally(logits, labels, np.ones(200, bool))
    mask = np.arange(128) < 72
    second = np.zeros((128, 5), np.float32), np.zeros(128, np.int32)
    second[0][:72], second[1][:72] = logits[128:], labels[128:]
    parts = tally(logits[:128], labels[:128], np.ones(128, bool)), tally(*second, mask)
    total = jax.tree.map(lambda a, b: a + b, *parts)
    for a, b in zip(whole, total, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_counts_go_on_beyond_what_a_float32_can_count():
    labels = np.zeros(2**24 + 8, np.int32)
    logits = np.zeros((1, len(labels), 1), np.float32)
    found = jax.jit(tally)(logits, labels[None], np.ones(1, bool))
    assert int(found.confusion.sum()) == 2**24 + 8


def test_smoothing_spreads_the_target_over_all_classes():
    logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
    log_p = np.asarray(jax.nn.log_softmax(logits))[0]
    expected = -(0.7 * log_p[0] + 0.1 * log_p.sum())
    assert mean_loss(logits, labels, 0.3) == pytest.approx(expected, rel=1e-6)


def test_nothing_to_measure_is_an_error():
    logits, labels = predictions(4)
    with pytest.raises(ValueError, match="nothing to measure"):
        figures(tally(logits, labels, np.zeros(4, bool)))
