"""CLIP's towers against torch, and the files that they are published in."""

# ruff: noqa: E402
import jax
import numpy as np
import pytest

REASON = "parity needs torch and transformers of the extra `parity`"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

import clip_reference
from experiments.models import text
from experiments.models.weights import load_weights
from tiny_networks import CLIP_RESNET, VIT, arrays_of, as_published, assert_same, tiny
from torch_parity import assert_close, images_for, randomised

# TorchScript is called deprecated, but it is what OpenAI publishes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VOCABULARY, LENGTH = 50, 13


@pytest.fixture
def resnet():
    torch.manual_seed(0)
    return randomised(clip_reference.ModifiedResNet(**CLIP_RESNET))


def visual(theirs):
    """As OpenAI names it, beside some of the text tower."""
    state = {f"visual.{name}": value for name, value in theirs.state_dict().items()}
    return state | {
        "token_embedding.weight": torch.ones(3, 4),
        "transformer.resblocks.0.attn.in_proj_weight": torch.ones(12, 4),
        "logit_scale": torch.tensor(4.6),
    }


def test_the_resnet_of_clip_agrees_with_a_transcription(resnet, tmp_path):
    torch.save(visual(resnet), tmp_path / "open_clip.bin")
    ours, unit = tiny("clip_resnet"), tiny("clip_resnet", projected=True)
    pixels, images = images_for(ours, (2, 48, 48, 3))
    with torch.no_grad():
        features, feature_map = resnet(images), resnet.feature_map(images)
    for model, expected in (
        (ours, features),
        (unit, torch.nn.functional.normalize(features)),
    ):
        load_weights(model, tmp_path / "open_clip.bin")
        assert_close(jax.jit(model.features)(pixels), expected)
    maps = jax.jit(lambda x: ours.backbone.feature_maps(x, train=False))(pixels)
    assert_close(maps[0], feature_map.permute(0, 2, 3, 1))


def test_an_archive_of_openai_is_read_in_half_precision(resnet, tmp_path):
    path = clip_reference.save_archive(tmp_path / "RN50.pt", visual(resnet))
    model, expected = tiny("clip_resnet"), tiny("clip_resnet")
    load_weights(model, path)
    half = {name: value.half() for name, value in visual(resnet).items()}
    torch.save(half, tmp_path / "halves.pt")
    load_weights(expected, tmp_path / "halves.pt")
    assert_same(model, arrays_of(expected))


def test_both_towers_agree_with_transformers(tmp_path):
    blocks = {"num_hidden_layers": 2, "hidden_act": "quick_gelu"}
    image = {
        "hidden_size": VIT["width"],
        "num_attention_heads": VIT["heads"],
        "intermediate_size": 4 * VIT["width"],
        "image_size": VIT["image_size"],
        "patch_size": 16,
    }
    texts = {
        "hidden_size": 128,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "bos_token_id": 0,
        "eos_token_id": VOCABULARY - 1,
    }
    config = transformers.CLIPConfig(
        vision_config=image | blocks, text_config=texts | blocks, projection_dim=12
    )
    torch.manual_seed(0)
    theirs = randomised(transformers.CLIPModel(config))
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    ours, tower = tiny("clip", projected=True), text.load(file)
    load_weights(ours, file)
    pixels, images = images_for(ours, (2, 48, 48, 3))
    tokens = np.random.default_rng(0).integers(1, VOCABULARY - 1, (3, LENGTH))
    for row, end in zip(tokens, (4, 9, LENGTH - 1), strict=True):
        row[end:] = VOCABULARY - 1  # the first counts
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(tokens), pixel_values=images)
    features = jax.jit(ours.features)(pixels)
    vectors = tower(np.int32(tokens))
    assert_close(features, expected.image_embeds)
    assert_close(vectors, expected.text_embeds)
    logits = np.exp(tower.logit_scale[...]) * features @ vectors.T
    assert_close(logits, expected.logits_per_image)
    # Nothing that follows an end is seen, so that texts may be cut after the last.
    assert_close(tower(np.int32(tokens[:1, :6])), expected.text_embeds[:1])
    load_weights(tiny("clip"), file)  # without the projection

    state = as_published("OpenAI's texts", tower) | as_published("OpenAI", ours)
    clip_reference.save_archive(tmp_path / "ViT-B-16.pt", state)
    again = tiny("clip", projected=True)
    load_weights(again, tmp_path / "ViT-B-16.pt")
    assert_same(again, halves(ours), "backbone/")
    assert_same(text.load(tmp_path / "ViT-B-16.pt"), halves(tower))


def halves(model):
    return {
        name: np.float16(a).astype(np.float32) for name, a in arrays_of(model).items()
    }
