"""Our networks against the torch ones of transformers, on random weights."""

# ruff: noqa: E402
import re

import jax
import numpy as np
import pytest

pytest.importorskip("flax", reason="needs the extra `experiments`")
REASON = "parity needs torch and transformers of the extra `parity`"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
safetensors_torch = pytest.importorskip("safetensors.torch", reason=REASON)

from flax import nnx

from experiments.models import backbone, resnet, vit
from experiments.models.weights import load_weights


CLASSES = 3


def randomised(model):
    """The torch model in evaluation mode, its norms no longer the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                low = 0.5 if re.search(r"var$|norm\w*\.weight$", name) else -0.5
                value.uniform_(low, low + 1, generator=generator)
            elif value.ndim > 1:
                value.mul_(3)
    return model.eval()


def torch_resnet(layer_type, widths):
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=widths,
        depths=[1, 2],
        layer_type=layer_type,
        num_labels=CLASSES,
    )
    torch.manual_seed(0)
    return randomised(transformers.ResNetForImageClassification(config))


def our_resnet(layer_type, widths, **options):
    options |= {"stem": 8, "widths": widths}
    options["bottleneck"] = layer_type == "bottleneck"
    return with_head(lambda: resnet.ResNet((1, 2), rngs=nnx.Rngs(0), **options))


def with_head(make):
    return backbone.drawn(
        lambda: backbone.Classifier(make(), CLASSES, rngs=nnx.Rngs(0)), seed=0
    )


def torch_vit(image_size=48):
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=image_size,
        num_labels=CLASSES,
    )
    torch.manual_seed(0)
    return randomised(transformers.ViTForImageClassification(config))


def our_vit(image_size=48, network=vit.ViT, **options):
    options |= {"image_size": image_size}
    return with_head(lambda: network(24, 2, 3, rngs=nnx.Rngs(0), **options))


def images(side):
    return np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)


def seen_by_torch(model, pixels):
    """The images as our network standardises them, in torch's layout."""
    standardised = np.asarray(model.backbone.standardise(pixels))
    return torch.from_numpy(standardised.transpose(0, 3, 1, 2).copy())


def assert_close(ours, theirs):
    theirs = theirs.detach().numpy()
    assert np.abs(theirs).max() > 0.1  # or agreement means little
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "folded"])
@pytest.mark.parametrize(("layer_type", "widths"), [
    ("basic", [8, 16]),
    ("bottleneck", [32, 64]),
])  # fmt: skip
def test_resnet_agrees_with_transformers(tmp_path, layer_type, widths, norm):
    theirs = torch_resnet(layer_type, widths)
    theirs.save_pretrained(tmp_path)
    ours = our_resnet(layer_type, widths, norm=norm)
    load_weights(ours, tmp_path / "model.safetensors")
    pixels = images(37)
    with torch.no_grad():
        logits = theirs(seen_by_torch(ours, pixels)).logits
    assert_close(jax.jit(ours)(pixels), logits)


def test_vit_agrees_with_transformers(tmp_path):
    theirs = torch_vit()
    theirs.save_pretrained(tmp_path)
    ours = our_vit()
    load_weights(ours, tmp_path / "model.safetensors")
    pixels = images(48)
    with torch.no_grad():
        seen = seen_by_torch(ours, pixels)
        tokens = theirs.vit(seen).last_hidden_state
        logits = theirs(seen).logits
    assert_close(jax.jit(ours)(pixels), logits)
    assert_close(jax.jit(ours.backbone.tokens)(pixels), tokens)


def test_the_visual_tower_of_clip_agrees_with_transformers(tmp_path):
    config = transformers.CLIPVisionConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=48,
        patch_size=16,
    )
    torch.manual_seed(0)
    theirs = randomised(transformers.CLIPVisionModel(config))
    theirs.save_pretrained(tmp_path)
    ours = our_vit(network=vit.VisualTower)
    load_weights(ours, tmp_path / "model.safetensors")
    pixels = images(48)
    with torch.no_grad():
        pooled = theirs(seen_by_torch(ours, pixels)).pooler_output
    assert_close(jax.jit(ours.features)(pixels), pooled)


def arrays_of(model):
    return backbone.names_and_leaves(model)


def assert_same_arrays(one, other):
    one, other = arrays_of(one), arrays_of(other)
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)


@pytest.mark.parametrize("stored", ["in memory", "as published"])
def test_both_namings_of_transformers_are_known(tmp_path, stored):
    theirs = torch_vit()
    one, other = our_vit(), our_vit()
    theirs.save_pretrained(tmp_path)
    load_weights(one, tmp_path / "model.safetensors")
    state = theirs.state_dict()
    if stored == "as published":
        state = {published(name): value for name, value in state.items()}
    torch.save(state, tmp_path / "other.pt")
    load_weights(other, tmp_path / "other.pt")
    assert_same_arrays(one, other)


def published(name):
    """The name that the files of ViT have on the hub."""
    for new, old in (
        (r"vit\.layers\.", "vit.encoder.layer."),
        (r"attention\.q_proj", "attention.attention.query"),
        (r"attention\.k_proj", "attention.attention.key"),
        (r"attention\.v_proj", "attention.attention.value"),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    ):
        name = re.sub(new, old, name)
    return name


def timm_name(name):
    for new, old in (
        (r"^vit\.(embeddings\.)?", ""),
        ("position_embeddings", "pos_embed"),
        (r"patch_embeddings\.projection", "patch_embed.proj"),
        (r"^layers\.", "blocks."),
        (r"attention\.o_proj", "attn.proj"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("^layernorm", "norm"),
        ("^classifier", "head"),
    ):
        name = re.sub(new, old, name)
    return name


def test_vit_loads_the_names_of_timm(tmp_path):
    state = torch_vit().state_dict()
    torch.save(state, tmp_path / "transformers.pt")
    named = {timm_name(name): value for name, value in state.items()}
    for name in [n for n in named if ".q_proj." in n]:
        parts = [named.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv"]
        named[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    torch.save({"model": named}, tmp_path / "timm.pth")
    one, other = our_vit(), our_vit(epsilon=1e-6)
    load_weights(one, tmp_path / "transformers.pt")
    load_weights(other, tmp_path / "timm.pth")
    assert_same_arrays(one, other)


def torchvision_name(name):
    stage = re.match(r"resnet\.encoder\.stages\.(\d)\.layers\.(\d+)\.(.*)", name)
    if stage is None:
        name = name.replace("resnet.embedder.embedder.convolution", "conv1")
        name = name.replace("resnet.embedder.embedder.normalization", "bn1")
        return name.replace("classifier.1", "fc")
    rest = stage[3].replace("shortcut.convolution", "downsample.0")
    rest = rest.replace("shortcut.normalization", "downsample.1")
    for index in range(3):
        rest = rest.replace(f"layer.{index}.convolution", f"conv{index + 1}")
        rest = rest.replace(f"layer.{index}.normalization", f"bn{index + 1}")
    return f"layer{int(stage[1]) + 1}.{stage[2]}.{rest}"


def test_resnet_loads_the_names_of_torchvision(tmp_path):
    widths = [32, 64]
    state = torch_resnet("bottleneck", widths).state_dict()
    safetensors_torch.save_file(state, tmp_path / "transformers.safetensors")
    named = {f"module.{torchvision_name(name)}": v for name, v in state.items()}
    torch.save({"state_dict": named, "epoch": 3}, tmp_path / "torchvision.pth")
    one, other = our_resnet("bottleneck", widths), our_resnet("bottleneck", widths)
    load_weights(one, tmp_path / "transformers.safetensors")
    load_weights(other, tmp_path / "torchvision.pth")
    assert_same_arrays(one, other)


def test_position_tables_are_interpolated_to_another_image_size(tmp_path):
    theirs = torch_vit(image_size=64)
    table = theirs.vit.embeddings.position_embeddings
    ramp = torch.arange(4.0)  # over the rows of the 4 x 4 grid
    with torch.no_grad():
        table[0, 1:] = ramp.repeat_interleave(4)[:, None]
    torch.save(theirs.state_dict(), tmp_path / "vit.pt")
    ours = our_vit(image_size=128)
    load_weights(ours, tmp_path / "vit.pt")
    found = np.asarray(ours.backbone.pos_embed)
    np.testing.assert_allclose(found[0, 0], table[0, 0].detach(), 1e-6)
    grid = found[0, 1:].reshape(8, 8, -1)
    np.testing.assert_allclose(grid[3:5, 2, 0], [1.25, 1.75], atol=0.02)
    np.testing.assert_allclose(grid, grid[:, :1, :1].repeat(8, 1).repeat(24, 2), 1e-4)
