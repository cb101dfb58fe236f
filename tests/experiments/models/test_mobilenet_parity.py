"""MobileNets against the torch ones of transformers, which pad as TensorFlow does.

A linear probe hardly feels a wrong padding, so it is here that one would show.
"""
# ruff: noqa: E402

import jax
import numpy as np
import pytest

pytest.importorskip("flax", reason="needs the extra `experiments`")
REASON = "parity needs torch and transformers of the extra `test`"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

from flax import nnx

from experiments import models
from experiments.models import mobilenet, parameters
from experiments.models.folding import norm_of

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
    parameters.replace(model, value)
    return model


def copied(model, theirs):
    """Their network with our weights: convolutions come in the same order in both."""
    arrays = parameters.names_and_leaves(model)
    state = theirs.state_dict()
    ours = [name.removesuffix("/kernel") for name in models.layers(model)]
    ours = [name for name in ours if f"{name}/kernel" in arrays and name != "head"]
    convs = [name for name in state if name.endswith("convolution.weight")]
    for name, conv in zip(ours, convs, strict=False):  # one more in their V1
        kernel = np.asarray(arrays[f"{name}/kernel"])
        state[conv] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        norm = conv.replace("convolution.weight", "normalization")
        for our, their in BUFFERS.items():
            array = arrays.get(f"{norm_of(name)}/{our}")
            if array is None:  # folded: a norm that only adds the bias
                array = identity(our, arrays[f"{name}/bias"])
            state[f"{norm}.{their}"] = torch.from_numpy(np.array(array))
    theirs.load_state_dict(state)
    return theirs.eval()


def identity(leaf, bias):
    if leaf == "var":
        return np.full(bias.shape, 1 - mobilenet.EPSILON, np.float32)
    return {
        "bias": bias,
        "scale": np.ones(bias.shape, np.float32),
        "mean": np.zeros(bias.shape, np.float32),
    }[leaf]


def last_of_v1(theirs):
    return theirs.layer[24]  # the last depthwise convolution


def last_of_v2(theirs):
    return theirs.conv_1x1


@pytest.mark.parametrize("side", [64, 45])
@pytest.mark.parametrize(
    ("name", "kind", "last"),
    [
        ("mobilenet-v1", "MobileNetV1", last_of_v1),
        ("mobilenet-v2", "MobileNetV2", last_of_v2),
    ],
)
def test_mobilenet_agrees_with_transformers(name, kind, last, side):
    config = getattr(transformers, f"{kind}Config")()
    ours = randomised(name)
    theirs = copied(ours, getattr(transformers, f"{kind}Model")(config))
    found = []
    last(theirs).register_forward_hook(lambda *call: found.append(call[-1]))
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
