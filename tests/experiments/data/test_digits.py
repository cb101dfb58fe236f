"""The digits: their splits and their domains."""

import numpy as np
import pytest

from experiments.data import digits


def test_splits_are_disjoint_stratified_and_fixed():
    splits = digits.load_splits()
    index = np.concatenate([split.source for split in splits.values()])
    assert len(index) == len(set(index.tolist())) == 1797
    for name, split in splits.items():
        assert len(split.images) == digits.SIZES[name]
        shares = np.bincount(split.labels) / len(split.labels)
        np.testing.assert_allclose(shares, 0.1, atol=0.011)
        np.testing.assert_array_equal(split.source, digits.load_splits()[name].source)


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_domains_are_pure_deterministic_and_in_range(domain):
    images = digits.load_splits()["val"].images[:20]
    before = images.copy()
    drawn = digits.render(images, domain, seed=3)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(drawn, digits.render(images, domain, seed=3))
    assert drawn.shape == images.shape
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert (domain == "clean") == np.array_equal(drawn, images)
