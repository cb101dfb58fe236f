"""What runs have to share to be compared, and what sets others apart, in words."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments import records
from experiments.configs.base import GROUPS, grouped

# Runs may differ in these and still be compared: what methods are tuned by, what is
# looked at on the way, and how fast it goes. `records` knows more of the last.
_OWN = (
    "method.name",
    "method.learning_rate",
    "method.strength",
    "seed",
    "evaluation.observe_every",
    "evaluation.wise_alphas",
    "evaluation.batch_size",
)
_TITLED = (
    "name",
    "model.name",
    "model.start",
    "data.image_size",
)  # `Comparison` has them
# What plays no part in a run that takes no steps.
_TRAINING = ("recipe.", "data.scale", "data.flip")
_FOLDER, _BUILT_FROM = "io.source_dir", "image_folder:"
_MOST = 4  # options that a title names

Options = tuple[tuple[str, str], ...]  # name and value in words, by name


class Comparison(NamedTuple):
    """Only runs that share all of this can be compared.

    Attributes:
      differing: what sets them apart from runs that share all the rest, in words;
        empty without such runs.
    """

    data: str
    model: str
    start: str
    stage: str
    image_size: str
    differing: str = ""

    @property
    def title(self) -> str:
        data, model, start, stage, image_size, differing = self
        apart = f", {differing}" if differing else ""
        words = {"": "", "tune": ", tuning", "final": ", chosen settings"}[stage]
        return f"{data}: {model}, {start}, {image_size} px{apart}{words}"


def comparison(record: Mapping[str, Any], stage: str) -> Comparison:
    """What the title of a comparison says of a run."""
    config = grouped(record.get("config") or {})
    # The start that was asked for: LP-FT probes the head first in any case, and still
    # competes with the methods that begin with a new one.
    start = (config.get("model") or {}).get("start", record["start"])
    # Beside their configuration, records may hold the height alone.
    size = (config.get("data") or {}).get("image_size", record["image_size"])
    sides = list(dict.fromkeys(size)) if isinstance(size, list) else [size]
    said = {record["model"], start, *start.split()}
    words = [word for word in record["name"].split() if word not in said]
    return Comparison(
        data=" ".join(words) or record["name"],
        model=record["model"],
        start=start,
        stage=stage,
        image_size=" x ".join(map(str, sides)),
    )


def options(config: Mapping[str, Any]) -> Options:
    """All else that runs have to share; an option younger than a run had its default.

    The folder of images is one where nothing but its name says which data it holds.
    """
    every = records.options(config, records.FREE)
    found = {
        name: in_words(value)
        for name, value in every.items()
        if name not in (*_OWN, *_TITLED)
    }
    if any(str(value).startswith(_BUILT_FROM) for value in every.values()):
        folder = grouped(config).get("io", {}).get("source_dir")
        found[_FOLDER] = pathlib.PurePath(folder or "").name
    return tuple(sorted(found.items()))


def without_training(found: Options) -> Options:
    """The options that a run obeys even if it takes no steps."""
    return tuple(pair for pair in found if not pair[0].startswith(_TRAINING))


def differing(own: Options, others: Iterable[Options]) -> str:
    """What `own` has that not all others share, in words."""
    everywhere = set(own).intersection(*others)
    words = [
        f"{_label(name)} {value}"
        for name, value in own
        if (name, value) not in everywhere
    ]
    more = len(words) - _MOST
    return ", ".join([*words[:_MOST], *([f"{more} more"] if more > 0 else [])])


def in_words(value: Any) -> str:
    """An option's value.

    >>> [in_words(value) for value in ("sgd", 4, 4.0, 1e-5, True, None)]
    ['sgd', '4', '4', '1e-05', 'on', 'none']
    >>> in_words([0.7, 1.0]), in_words([])
    ('0.7 1', 'none')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(float(value)).removesuffix(".0")
    if isinstance(value, list):
        return " ".join(map(in_words, value)) or "none"
    return "none" if value is None else str(value)


def _label(name: str) -> str:
    short = name.partition(".")[2] if name.split(".")[0] in GROUPS else name
    return short.replace(".", " ").replace("_", " ")
