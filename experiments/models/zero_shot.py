"""Heads that need no training: from the names of classes, or from rows of another."""

import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.files import checksum, write_bytes
from experiments.models import hub, text
from experiments.models.weights import WeightsError, located

# Both are published by OpenAI in CLIP's notebooks (MIT licence).
IMAGENET_TEMPLATES = pathlib.Path(__file__).with_name("imagenet_templates.txt")
"""80 texts for an image of ImageNet."""
IMAGENET_NAMES = pathlib.Path(__file__).with_name("imagenet_names.txt")
"""Names of its 1000 classes, in the order of WordNet's numbers, n01440764 first."""

START, END = "<|startoftext|>", "<|endoftext|>"
# Contractions, words, single digits, and runs of other signs.
PIECES = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
BATCH = 128  # texts at a time
STEP = 8  # tokens: texts are filled up to a multiple


def text_head(
    path: str | pathlib.Path,
    class_names: Sequence[str] | pathlib.Path,
    templates: Sequence[str] | pathlib.Path = IMAGENET_TEMPLATES,
    *,
    tokenizer: str | pathlib.Path | None = None,
    quick: bool = True,
    cache: pathlib.Path | None = None,
) -> np.ndarray:
    """A classifier of CLIP's projected features, from the names of its classes.

    A class has the mean over templates of its texts' unit vectors, made unit again.

    Args:
      path: weights of CLIP with a text tower, as of `weights.load_weights`.
      class_names: in the order of the classes; or a file with one a line.
      templates: texts with `{}` for a name; or a file with one a line.
      tokenizer: a `tokenizer.json`, or `vocab.json` with `merges.txt` beside it; by
        default what lies beside the weights.
      quick: as of `text.load`.
      cache: a folder where heads are kept, under a digest of all that they depend on.

    Returns:
      The kernel `(features, classes)` in float32, times the scale of the logits.

    Raises:
      ValueError: there are no classes, or a template has no place for a name.
      WeightsError: weights or tokenizer are missing, damaged, or of another kind.
    """
    class_names, templates = _lines(class_names), _lines(templates)
    if not class_names:
        raise ValueError("class_names: expected one or more, got none")
    for template in templates or [""]:
        if "{}" not in template:
            raise ValueError(
                f"templates: expected texts with {{}} for a name, got {template!r}"
            )
    tower = text.load(path, quick=quick)
    encoder = read_tokenizer(tokenizer or path)
    prompts = [t.replace("{}", name) for name in class_names for t in templates]
    tokens = tokenised(encoder, prompts, tower.length)
    if tokens.max() >= tower.tokens.num_embeddings:
        raise WeightsError(
            f"tokenizer: expected one of {tower.tokens.num_embeddings} tokens, as"
            f" {path} has; got the token {tokens.max()}"
        )
    if cache is None:
        return _kernel(tower, tokens, len(class_names))
    parts = checksum(located(path)), tokens.tolist(), len(templates), quick
    kept = cache / f"{hashlib.sha256(repr(parts).encode()).hexdigest()}.npy"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(content := io.BytesIO(), _kernel(tower, tokens, len(class_names)))
        write_bytes(kept, content.getvalue())
    return np.load(kept)


def _kernel(tower: text.TextTower, tokens: np.ndarray, classes: int) -> np.ndarray:
    """The head of so many classes; the texts are those of one after the other."""
    means = _encoded(tower, tokens).reshape(classes, len(tokens) // classes, -1).mean(1)
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    return np.asarray(np.exp(tower.logit_scale[...]) * means.T, np.float32)


def _lines(texts: Sequence[str] | pathlib.Path) -> Sequence[str]:
    return texts.read_text().splitlines() if isinstance(texts, pathlib.Path) else texts


def _encoded(tower: text.TextTower, tokens: np.ndarray) -> np.ndarray:
    graphdef, state = nnx.split(tower)
    encode = jax.jit(lambda state, tokens: nnx.merge(graphdef, state)(tokens))
    padded = np.resize(tokens, (-(-len(tokens) // BATCH) * BATCH, tokens.shape[1]))
    batches = [padded[i : i + BATCH] for i in range(0, len(padded), BATCH)]
    vectors = [np.asarray(encode(state, batch)) for batch in batches]
    return np.concatenate(vectors)[: len(tokens)]


def rows(
    kernel: np.ndarray,
    bias: np.ndarray,
    head_rows: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """A head for other classes, each the mean of some rows of a head.

    Args:
      kernel: of the head, `(features, rows)`.
      bias: the same, `(rows,)`.
      head_rows: those of each class.
      class_names: in the order that the new head has.

    Raises:
      ValueError: a class has no rows, or they are none of the head's.

    Examples:
      >>> kernel, bias = rows(
      ...     np.eye(3), np.arange(3.0), {"dog": [0, 2], "cat": [1]}, ["cat", "dog"]
      ... )
      >>> kernel[:, 1], bias
      (array([0.5, 0. , 0.5]), array([1., 1.]))
    """
    kernels, biases = [], []
    for name in class_names:
        chosen = list(head_rows.get(name, ()))
        if not chosen or not set(chosen) <= set(range(len(bias))):
            raise ValueError(
                f"head_rows: expected rows from 0 to {len(bias) - 1} for the class"
                f" {name!r}, got {chosen}"
            )
        kernels.append(kernel[:, chosen].mean(1))
        biases.append(bias[chosen].mean())
    return np.stack(kernels, 1), np.array(biases)


# ---- Tokens ------------------------------------------------------------------------


def tokenised(encoder: Any, prompts: Sequence[str], length: int) -> np.ndarray:
    """The texts as `(n, up to length)` tokens, with zeros after their ends."""
    encoder.enable_truncation(length)
    encoder.enable_padding(pad_id=0, pad_to_multiple_of=STEP)
    texts = [encoding.ids for encoding in encoder.encode_batch(list(prompts))]
    return np.array(texts, np.int32)[:, :length]


def read_tokenizer(path: str | pathlib.Path) -> Any:
    """A tokenizer of the `tokenizers` package.

    Args:
      path: `tokenizer.json`, or `vocab.json` with `merges.txt` beside it; or weights,
        in whose folder or repository one of these lies.

    Raises:
      WeightsError: there is none, or it cannot be read.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise WeightsError("tokenizer: pip install tokenizers to read texts") from error
    problems = []
    names = ("tokenizer.json", "vocab.json")
    named = str(path).split("@")[0].endswith(".json")
    for file in [path] if named else [beside(path, name) for name in names]:
        try:
            fetched = located(file)
            if not fetched.is_file():
                raise WeightsError(f"there is no {file}")
            if fetched.name != "vocab.json":
                return tokenizers.Tokenizer.from_file(str(fetched))
            return _of_clip(fetched, located(beside(file, "merges.txt")))
        except Exception as error:  # the package has no kind of its own
            problems += str(error).splitlines()[:1]
    raise WeightsError(
        f"tokenizer: expected tokenizer.json, or vocab.json and merges.txt:"
        f" {'; '.join(problems)}"
    )


def beside(path: str | pathlib.Path, name: str) -> str | pathlib.Path:
    """The file of this name in the same folder, or in the same repository."""
    if not str(path).startswith(hub.PREFIX):
        return located(path).with_name(name)
    repository, _, revision = hub.parsed(str(path))
    at = f"@{revision}" if revision else ""
    return f"{hub.PREFIX}{repository}:{name}{at}"


def _of_clip(vocabulary: pathlib.Path, merges: pathlib.Path) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from tokenizers.processors import RobertaProcessing

    model = models.BPE.from_file(
        *(str(vocabulary), str(merges)), end_of_word_suffix="</w>", unk_token=END
    )
    encoder = Tokenizer(model)
    start, end = map(encoder.token_to_id, (START, END))
    if start is None or end is None:
        raise ValueError(f"there is no {START} or {END} in {vocabulary}")
    encoder.add_special_tokens([START, END])
    encoder.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    encoder.post_processor = RobertaProcessing((END, end), (START, start), False, False)
    return encoder
