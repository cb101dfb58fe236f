"""Figures against scikit-learn's, and against their definitions."""

import itertools

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


def test_figures_are_those_of_scikit_learn_and_of_their_definition():
    logits, labels = predictions()
    measured = figures(tally(logits, labels, np.ones(200, bool)))
    p = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    confidence, predicted = p.max(-1), p.argmax(-1)
    edges = np.linspace(0, 1, BINS + 1)
    right = predicted == labels
    gaps = [
        np.mean(inside) * abs(right[inside].mean() - confidence[inside].mean())
        for low, high in itertools.pairwise(edges)
        if (inside := (confidence >= low) & (confidence < high)).any()
    ]
    expected = {
        "accuracy": oracle.accuracy_score(labels, predicted),
        "macro_accuracy": oracle.balanced_accuracy_score(labels, predicted),
        "mean_iou": oracle.jaccard_score(labels, predicted, average="macro"),
        "ece": sum(gaps),
        "nll": oracle.log_loss(labels, p),
        "images": 200,
    }
    assert measured == pytest.approx(expected, rel=1e-4)


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


def test_pixels_without_a_class_do_not_count():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    masks = rng.integers(0, 4, (2, 4, 4)).astype(np.int32)  # 3 is void
    counted = masks < 3
    found = figures(tally(logits, masks, np.ones(2, bool)))
    predicted = logits.argmax(-1)
    assert found["accuracy"] == pytest.approx(
        np.mean(predicted[counted] == masks[counted])
    )
    assert found["images"] == 2
    assert share_right(logits, masks) == pytest.approx(found["accuracy"])
    assert mean_loss(jnp.asarray(logits), jnp.asarray(masks)) == pytest.approx(
        found["nll"], rel=1e-5
    )


@pytest.mark.parametrize("shape", [(32, 200, 200), (2, 800, 800)])
def test_more_than_a_million_pixels_are_summed_without_bias(shape):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (*shape, 3)).astype(np.float32)
    logits[..., 0] += 4  # most are sure, so that few bins hold nearly all
    masks = np.where(rng.random(shape) < 0.95, 0, rng.integers(0, 4, shape))
    found = jax.jit(tally)(logits, masks.astype(np.int32), np.ones(len(logits), bool))

    p = scipy.special.softmax(logits.astype(np.float64)[masks < 3], axis=-1)
    truth, predicted, confidence = masks[masks < 3], p.argmax(-1), p.max(-1)
    gaps = confidence - (predicted == truth)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, gaps, BINS)
    np.testing.assert_array_equal(
        found.confusion, oracle.confusion_matrix(truth, predicted)
    )
    assert figures(found)["ece"] == pytest.approx(
        np.abs(excess).sum() / len(truth), abs=1e-5
    )
    assert figures(found)["nll"] == pytest.approx(oracle.log_loss(truth, p), rel=1e-6)


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
