"""Heads from names of classes, with a tokenizer, and heads from rows."""

# ruff: noqa: E402
import functools
import json

import numpy as np
import pytest

pytest.importorskip("flax", reason="needs the extra `experiments`")
tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")

import clip_files
from experiments.models import text, zero_shot
from experiments.models.weights import WeightsError
from tiny_networks import as_published, tiny

TEXTS = (
    "a photo of a great white shark.",
    "A CAFÉ's  4x4,\tdon't they've  2024!?",
    "漢字 and 🙂 ünïcode ½ <|endoftext|> inside",
    "",
    20 * "shark ",
)
CLASSES, TEMPLATES = ["great white shark", "café", "cat"], ["a photo of a {}.", "{}"]


@pytest.fixture
def weights(tmp_path):
    return clip_files.write(tmp_path, tiny("clip", projected=True, seed=1))


def test_texts_become_the_tokens_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    clip_files.write_tokenizer(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(
        tmp_path, model_max_length=clip_files.LENGTH
    )
    expected = theirs(list(TEXTS), padding=True, truncation=True).input_ids
    theirs.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "weights.pt", tmp_path / "saved" / "weights.pt"):
        encoder = zero_shot.read_tokenizer(path)
        tokens = zero_shot.tokenised(encoder, TEXTS, clip_files.LENGTH)
        assert tokens.shape == (len(TEXTS), clip_files.LENGTH)
        for row, ids in zip(tokens, expected, strict=True):
            end = ids.index(theirs.eos_token_id, 1) + 1
            np.testing.assert_array_equal(row[:end], ids[:end])
    short = zero_shot.tokenised(encoder, ["cat"], clip_files.LENGTH)
    assert short.shape == (1, 8)


def test_a_class_is_the_unit_mean_of_its_texts(weights):
    kernel = zero_shot.text_head(weights, CLASSES, TEMPLATES)
    assert (kernel.shape, kernel.dtype) == ((12, 3), np.float32)
    tower = text.load(weights)
    encoder = zero_shot.read_tokenizer(weights)
    for column, name in zip(kernel.T, CLASSES, strict=True):
        prompts = [template.format(name) for template in TEMPLATES]
        vectors = tower(zero_shot.tokenised(encoder, prompts, clip_files.LENGTH))
        mean = np.asarray(vectors).mean(0)
        expected = clip_files.SCALE * mean / np.linalg.norm(mean)
        np.testing.assert_allclose(column, expected, rtol=1e-4, atol=1e-4)


def test_a_head_is_computed_once(weights, tmp_path, monkeypatch):
    make = functools.partial(zero_shot.text_head, weights, cache=tmp_path / "heads")
    first = make(CLASSES, TEMPLATES)
    shorter = make(CLASSES, TEMPLATES[:1])
    weights.write_bytes(bytes(weights.read_bytes()))  # a copy serves as well
    monkeypatch.setattr(zero_shot, "_encoded", None)
    np.testing.assert_array_equal(make(CLASSES, TEMPLATES), first)
    np.testing.assert_array_equal(make(CLASSES, TEMPLATES[:1]), shorter)
    assert np.abs(first - shorter).max() > 0
    with pytest.raises(TypeError, match="not callable"):  # another head
        make(CLASSES[::-1], TEMPLATES)


def test_imagenet_has_eighty_templates_and_a_thousand_names(weights):
    templates = zero_shot.IMAGENET_TEMPLATES.read_text().splitlines()
    names = zero_shot.IMAGENET_NAMES.read_text().splitlines()
    assert (len(set(templates)), len(names)) == (80, 1000)
    assert names[::999] == ["tench", "toilet paper"]
    one = zero_shot.text_head(weights, CLASSES)
    tokenizer = weights.with_name("vocab.json")
    other = zero_shot.text_head(weights, CLASSES, templates, tokenizer=tokenizer)
    np.testing.assert_array_equal(one, other)


REFUSED = {
    "classes": ({"class_names": []}, "class_names: expected one or more, got none"),
    "templates": ({"templates": ["a cat"]}, r"texts with \{\} for a name, got 'a cat'"),
    "no templates": ({"templates": []}, r"texts with \{\} for a name, got ''"),
    "tokenizer": ({"tokenizer": "nowhere.json"}, "there is no nowhere.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_head_is_refused_in_one_line(weights, name):
    options, words = REFUSED[name]
    options = {"class_names": CLASSES, "templates": TEMPLATES} | options
    with pytest.raises(ValueError, match=f"^.*{words}.*$"):
        zero_shot.text_head(weights, **options)


def test_a_file_without_a_text_tower_is_refused(tmp_path):
    images = as_published("OpenAI", tiny("clip", projected=True))
    for name, arrays, words in (
        ("images.npz", images, "has no text tower of CLIP"),
        ("vit.npz", as_published("timm", tiny("vit")), "looks like a vision transf"),
    ):
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(WeightsError, match=words):
            zero_shot.text_head(tmp_path / name, CLASSES)


def test_a_tokenizer_of_more_words_than_the_tower_has_is_refused(weights):
    words = json.loads(weights.with_name("vocab.json").read_text())
    words = {word: index + (index > 99) for word, index in words.items()}
    weights.with_name("vocab.json").write_text(json.dumps(words))
    with pytest.raises(WeightsError, match="tokenizer: expected one of 198 tokens"):
        zero_shot.text_head(weights, CLASSES)


@pytest.mark.parametrize(("weights", "beside"), [
    ("hf:openai/clip", "hf:openai/clip:vocab.json"),
    ("hf:openai/clip:model.safetensors@v1", "hf:openai/clip:vocab.json@v1"),
])  # fmt: skip
def test_a_tokenizer_lies_in_the_repository_of_the_weights(weights, beside):
    assert zero_shot.beside(weights, "vocab.json") == beside


def test_a_head_is_made_of_rows_in_the_order_of_the_classes():
    kernel, bias = np.arange(12.0).reshape(3, 4), np.arange(4.0)
    table = {"cat": [1], "dog": [0, 3]}
    new_kernel, new_bias = zero_shot.rows(kernel, bias, table, ["dog", "cat"])
    np.testing.assert_array_equal(new_kernel, [[1.5, 1], [5.5, 5], [9.5, 9]])
    np.testing.assert_array_equal(new_bias, [1.5, 1])
    for wrong in ({"cat": []}, {"cat": [4]}, {"cat": [-1]}, {}):
        with pytest.raises(ValueError, match=r"rows from 0 to 3 for the class 'cat'"):
            zero_shot.rows(kernel, bias, wrong, ["cat"])
