"""Our networks against the torch ones of transformers, on random weights.

A linear probe hardly feels a wrong padding, so it is here that one would show.
"""

# ruff: noqa: E402
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

REASON = "parity needs torch and transformers of the extra `parity`"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
pytest.importorskip("safetensors.torch", reason=REASON)

from flax import nnx

from experiments.models import backbone, naming
from experiments.models.naming import TORCH, published
from experiments.models.weights import load_weights
from tiny_networks import CLASSES, RESNET, SWIN, VIT, arrays_of, assert_same, tiny
from torch_parity import assert_close, images_for, randomised

# Their MobileNet is torch's, but padded as TensorFlow does.
MOBILENET = published(
    "a MobileNetV1 as transformers names it",
    TORCH,
    {"conv_stem.convolution": "conv1", "conv_stem.normalization": "bn1"}
    | {
        f"layer.{2 * block + i}.{part}": f"blocks/{block}/{layer}{norm}"
        for block in range(13)
        for i, layer in enumerate(("dw", "pw"))
        for part, norm in (("convolution", ""), ("normalization", "_bn"))
    },
    unused=r"layer\.25\..*",  # one convolution more
)


# Replacements in the names of our all-MLP head.
DECODER = (
    (r"(projections/\d)", r"linear_\1/proj"),
    (r"^fuse", "linear_fuse"),
    (r"^norm", "batch_norm"),
    (r"(mean|var)$", r"running_\1"),
    (r"kernel|scale", "weight"),
)


class Architecture(NamedTuple):
    """One of `tiny_networks`, and what it has to agree with."""

    ours: str
    theirs: Any
    config: Any
    side: int
    features: Any  # of their network and its images
    options: Any
    table: Any = None


def resnet(ours, layer_type, widths, side, **options):
    config = transformers.ResNetConfig(
        embedding_size=RESNET["stem"],
        depths=list(RESNET["depths"]),
        hidden_sizes=widths,
        layer_type=layer_type,
        num_labels=CLASSES,
    )
    kind = transformers.ResNetForImageClassification
    return Architecture(
        ours, kind, config, side, lambda m, x: m.resnet(x).pooler_output, options
    )


def transformer(ours, kind, config, features):
    config = config(
        hidden_size=VIT["width"],
        num_hidden_layers=VIT["depth"],
        num_attention_heads=VIT["heads"],
        intermediate_size=4 * VIT["width"],
        image_size=VIT["image_size"],
        patch_size=16,
        num_labels=CLASSES,
    )
    return Architecture(ours, kind, config, VIT["image_size"], features, {})


def swin_config(**options):
    return transformers.SwinConfig(
        embed_dim=SWIN["width"],
        depths=list(SWIN["depths"]),
        num_heads=list(SWIN["heads"]),
        window_size=SWIN["window"],
        num_labels=CLASSES,
        **options,
    )


def swin(side):
    kind = transformers.SwinForImageClassification
    return Architecture(
        "swin", kind, swin_config(), side, lambda m, x: m.swin(x).pooler_output, {}
    )


def last_depthwise(theirs, images):
    maps = []
    theirs.layer[24].register_forward_hook(lambda *call: maps.append(call[-1]))
    theirs(images)
    return maps[0].mean((2, 3))


def mobilenet(side):
    config, kind = transformers.MobileNetV1Config(), transformers.MobileNetV1Model
    return Architecture("mobilenet", kind, config, side, last_depthwise, {}, MOBILENET)


ARCHITECTURES = {
    "ResNet": resnet("resnet", "basic", [8, 16], 37),
    "bottlenecks": resnet("bottleneck", "bottleneck", [32, 64], 37),
    "folded": resnet("resnet", "basic", [8, 16], 37, norm=False),
    "folded bottlenecks": resnet("bottleneck", "bottleneck", [32, 64], 64, norm=False),
    "ViT": transformer(
        "vit",
        transformers.ViTForImageClassification,
        transformers.ViTConfig,
        lambda m, x: m.vit(x).last_hidden_state[:, 0],
    ),
    "CLIP": transformer(
        "clip",
        transformers.CLIPVisionModel,
        transformers.CLIPVisionConfig,
        lambda m, x: m(x).pooler_output,
    ),
    "Swin": swin(128),
    "Swin, padded": swin(119),
    "MobileNet": mobilenet(64),
    "MobileNet, odd": mobilenet(45),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_agrees_with_transformers(name, tmp_path):
    case = ARCHITECTURES[name]
    torch.manual_seed(0)
    theirs = randomised(case.theirs(case.config))
    theirs.save_pretrained(tmp_path)
    ours = tiny(case.ours, **case.options)
    load_weights(ours, tmp_path / "model.safetensors", case.table)
    shape = (2, case.side, case.side, 3)
    pixels, images = images_for(ours, shape)
    with torch.no_grad():
        features, logits = case.features(theirs, images), theirs(images)
    features = features.reshape(2, -1)  # some keep two axes of one pixel
    assert_close(jax.jit(ours.features)(pixels), features)
    if hasattr(logits, "logits"):
        assert_close(jax.jit(ours)(pixels), logits.logits)
    # The names in memory may be others than those of files.
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "memory.pth")
    again = tiny(case.ours, **case.options)
    load_weights(again, tmp_path / "memory.pth", case.table)
    assert_same(again, arrays_of(ours))


@pytest.mark.parametrize("side", [64, 59])
def test_the_maps_of_a_swin_agree_with_those_of_transformers(side, tmp_path):
    stages = [f"stage{index + 1}" for index in range(len(SWIN["depths"]))]
    torch.manual_seed(0)
    model = randomised(transformers.SwinModel(swin_config()))
    model.save_pretrained(tmp_path)
    theirs = transformers.SwinBackbone(swin_config(out_features=stages)).eval()
    theirs.swin.load_state_dict(model.state_dict(), strict=False)
    # The norms of the others are new there; so ours have no scale and no bias.
    theirs.hidden_states_norms[stages[-1]] = model.layernorm
    ours = tiny("swin")
    load_weights(ours, tmp_path / "model.safetensors")
    pixels, images = images_for(ours, (2, side, side + 9, 3))
    with torch.no_grad():
        expected = theirs(images).feature_maps
    maps = jax.jit(lambda x: ours.backbone.feature_maps(x, train=False))(pixels)
    for one, other in zip(maps, expected, strict=True):
        assert_close(one, other.permute(0, 2, 3, 1))


def test_the_all_mlp_head_agrees_with_that_of_segformer(tmp_path):
    config = transformers.SegformerConfig(
        hidden_sizes=[6, 10], num_encoder_blocks=2, decoder_hidden_size=16
    )
    kind = transformers.models.segformer.modeling_segformer.SegformerDecodeHead
    torch.manual_seed(0)
    theirs = randomised(kind(config))
    ours = backbone.AllMLP((6, 10), 16, np.dtype("float32"), nnx.Rngs(0))
    values = {name: value.numpy() for name, value in theirs.state_dict().items()}

    def value_of(name, leaf):
        for pattern, replacement in DECODER:
            name = re.sub(pattern, replacement, name)
        value = values[name.replace("/", ".")]
        return value[:, :, 0, 0].T if "fuse" in name else value.T

    backbone.replace(ours, value_of)
    random = np.random.default_rng(0)
    shapes = ((2, 9, 7, 6), (2, 5, 4, 10))
    maps = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    fused = []
    theirs.activation.register_forward_hook(lambda *call: fused.append(call[-1]))
    with torch.no_grad():
        theirs([torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in maps])
    assert_close(ours(maps, train=False), fused[0].permute(0, 2, 3, 1))


@pytest.mark.parametrize(("side", "wanted"), [(7, 13), (13, 7), (5, 8)])
def test_tables_of_another_size_are_interpolated_as_by_torch(side, wanted):
    random = np.random.default_rng(0)
    grid = random.normal(size=(1, 6, side, side)).astype(np.float32)

    def resized(**options):  # as torch has it, (points, features)
        x = torch.nn.functional.interpolate(
            torch.from_numpy(grid), (wanted, wanted), mode="bicubic", **options
        )
        return x.flatten(2)[0].T

    points = grid.reshape(6, -1).T
    assert_close(naming.bias_table(points, (wanted**2, 6)), resized())
    positions = np.concatenate([points[None, :1], points[None]], axis=1)
    table = naming.position_table(positions, (1, 1 + wanted**2, 6))
    assert_close(table[0, 1:], resized(antialias=True))
    np.testing.assert_array_equal(table[0, 0], points[0])
