"""MobileNet against the torch one of transformers, which pads as TensorFlow does.

A linear probe hardly feels a wrong padding, so it is here that one would show.
"""
# ruff: noqa: E402

import jax
import numpy as np
import pytest

pytest.importorskip("flax", reason="needs the extra `experiments`")
REASON = "parity needs torch and transformers of the extra `parity`"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

from flax import nnx

from experiments import models
from experiments.models import backbone
from experiments.models.weights import norm_of

BUFFERS = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def randomised(name):
    """Our network with statistics and biases that are not the identity."""
    random = np.random.default_rng(0)

    def value(path, leaf):
        if leaf.ndim != 1:
            return leaf  # larger ones would amplify rounding in both networks
        low = 0.5 if path.endswith(("scale", "var")) else -0.5
        return random.uniform(low, low + 1, leaf.shape)

    model = models.create(name, 3, rngs=nnx.Rngs(0))
    backbone.replace(model, value)
    return model


def copied(model, theirs):
    """Their network with our weights: convolutions come in the same order in both."""
    arrays = backbone.names_and_leaves(model)
    state = theirs.state_dict()
    ours = [name.removesuffix("/kernel") for name in models.layer_names(model)]
    ours = [name for name in ours if f"{name}/kernel" in arrays and name != "head"]
    convs = [name for name in state if name.endswith("convolution.weight")]
    for name, conv in zip(ours, convs, strict=False):  # one more in their V1
        kernel = np.asarray(arrays[f"{name}/kernel"])
        state[conv] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        norm = conv.replace("convolution.weight", "normalization")
        for our, their in BUFFERS.items():
            array = np.array(arrays[f"{norm_of(name)}/{our}"])
            state[f"{norm}.{their}"] = torch.from_numpy(array)
    theirs.load_state_dict(state)
    return theirs.eval()


@pytest.mark.parametrize("side", [64, 45])
def test_mobilenet_agrees_with_transformers(side):
    ours = randomised("mobilenet-v1")
    config = transformers.MobileNetV1Config()
    theirs = copied(ours, transformers.MobileNetV1Model(config))
    found = []
    last = theirs.layer[24]  # the last depthwise convolution
    last.register_forward_hook(lambda *call: found.append(call[-1]))
    pixels = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
    seen = np.asarray(ours.backbone.standardise(pixels)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        theirs(torch.from_numpy(seen.copy()))
    expected = found[0].numpy().transpose(0, 2, 3, 1)
    graphdef, state = nnx.split(ours.backbone)
    feature_map = jax.jit(
        lambda state, x: nnx.merge(graphdef, state).feature_map(x, train=False)
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(
        feature_map(state, pixels), expected, rtol=1e-4, atol=1e-4
    )
