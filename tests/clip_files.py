"""A small CLIP as it is published: both towers in one file, a tokenizer beside it."""

import functools
import json

import numpy as np
from flax import nnx

from experiments.models import text, zero_shot
from experiments.models.backbone import drawn
from tiny_networks import as_published

LENGTH = 24  # tokens
SCALE = 50.0  # of the logits
LETTERS = [chr(code) for code in range(33, 127)]  # others are unknown
MERGES = ("s h", "a r", "sh ar", "shar k</w>", "c a", "ca t</w>", "' s</w>", "o f</w>")


def write_tokenizer(folder):
    """`vocab.json` of letters and a few merges, and `merges.txt`; how many words."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    words += [merge.replace(" ", "") for merge in MERGES]
    words += [zero_shot.START, zero_shot.END]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return len(words)


def write(folder, images):
    """`clip.npz` with OpenAI's names, and its tokenizer.

    The visual tower is that of a model `images`, made with `projected=True`.
    """
    make = functools.partial(
        *(text.TextTower, 64, 2),
        vocabulary=write_tokenizer(folder),
        length=LENGTH,
        embedding=images.backbone.width,
    )
    tower = drawn(lambda: make(rngs=nnx.Rngs(0)), 0)
    tower.logit_scale[...] = np.log(SCALE)
    arrays = as_published("OpenAI's texts", tower) | as_published("OpenAI", images)
    np.savez(folder / "clip.npz", **arrays)
    return folder / "clip.npz"
