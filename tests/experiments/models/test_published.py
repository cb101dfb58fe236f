"""The published weights, if they are at hand: a linear probe shows a wrong loader."""
# ruff: noqa: E402

import os
import pathlib
import warnings

import jax
import numpy as np
import pytest

linear_model = pytest.importorskip(
    "sklearn.linear_model", reason="needs the extra `experiments`"
)

from flax import nnx
from PIL import Image

from experiments import models
from experiments.models.weights import load_weights

FILES = {
    "resnet18-trunk": "resnet18_in1k_bnfolded_to_layer3.npz",
    "mobilenet-v1": "mobilenet_v1_1.0_in1k_no_pw13.npz",
}
# Least accuracy on photo and on art, two or three points below what was measured with
# these images: .914 and .402, .921 and .559. A probe notices mixed-up
# layers and, in the MobileNet, colours on a wrong scale; padding is left to parity.
LEAST = {
    "resnet18-trunk": (0.89, 0.37),
    "mobilenet-v1": (0.895, 0.53),
}
BATCH = 100


def folder(variable):
    if variable not in os.environ:
        pytest.skip(f"needs {variable}, a folder that is not part of the project")
    return pathlib.Path(os.environ[variable])


def images(domain, slices):
    """Some images of every class of a domain of PACS, with labels."""
    pixels, labels = [], []
    classes = sorted(path for path in domain.iterdir() if path.is_dir())
    for label, path in enumerate(classes):
        files = sorted(path.iterdir())[slices]
        pixels += [np.asarray(Image.open(file).convert("RGB")) for file in files]
        labels += [label] * len(files)
    return np.stack(pixels), np.array(labels)


@pytest.mark.parametrize("name", FILES)
def test_a_linear_probe_reaches_what_the_weights_are_known_for(name):
    weights, data = folder("FTP_OPTAX_WEIGHTS"), folder("FTP_OPTAX_DATA") / "pacs"
    model = models.create(name, 7, rngs=nnx.Rngs(0))
    load_weights(model, weights / FILES[name])
    graphdef, state = nnx.split(model)
    features = jax.jit(lambda state, x: nnx.merge(graphdef, state).features(x))

    def probed(domain, slices):
        pixels, labels = images(data / domain, slices)
        padded = np.resize(
            pixels, (-(-len(pixels) // BATCH) * BATCH, *pixels.shape[1:])
        )
        batches = np.split(padded, len(padded) // BATCH)  # of one size: one compilation
        found = np.concatenate([features(state, x) for x in batches])
        return found[: len(pixels)], labels

    train = probed("photo", slice(0, None, 2))
    photo = probed("photo", slice(1, None, 4))
    art = probed("art_painting", slice(0, None, 4))
    mean, deviation = train[0].mean(0), train[0].std(0) + 1e-6
    probe = linear_model.LogisticRegression(C=0.01, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: it need not be exact
        probe.fit((train[0] - mean) / deviation, train[1])
    found = [probe.score((x - mean) / deviation, y) for x, y in (photo, art)]
    assert found[0] >= LEAST[name][0], found
    assert found[1] >= LEAST[name][1], found
