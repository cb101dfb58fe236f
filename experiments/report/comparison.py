"""Which runs can be compared, and what sets others apart."""

import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments import records
from experiments.configs.base import GROUPS
from experiments.studies import Record

# Runs may differ in these and still be compared: what methods are tuned by, what is
# looked at on the way, what a title says.
_OWN = {
    *("method.name", "method.learning_rate", "method.strength", "seed"),
    *("evaluation.observe_every", "evaluation.wise_alphas", "evaluation.batch_size"),
    *("name", "model.name", "model.start", "data.image_size"),
}
# What plays no part in a probe, which takes no steps.
_TRAINING = ("recipe.", "data.scale", "data.flip")
# Where nothing but the name of a folder says which data it holds.
_FOLDER, _BUILT_FROM = "io.source_dir", ("image_folder:", "mask_folder:", "list:")
_MOST = 4  # options that a title names

Options = frozenset[tuple[str, str]]  # name and value in words


class Comparison(NamedTuple):
    """What a title says of the runs that are compared."""

    data: str
    model: str
    start: str
    stage: str
    image_size: str
    apart: str = ""  # what runs that share all this differ in

    @property
    def title(self) -> str:
        words = {"": "", "tune": ", tuning", "final": ", chosen settings"}[self.stage]
        apart = f", {self.apart}" if self.apart else ""
        size = f"{self.image_size} px"
        return f"{self.data}: {self.model}, {self.start}, {size}{apart}{words}"


def comparable(runs: Iterable[Record]) -> list[tuple[Comparison, list[Record]]]:
    """The runs that can be compared with each other, in order of their titles.

    A probe does not obey the options of training: it joins all runs that share the
    others.
    """
    groups: dict[tuple[Comparison, Options], list[Record]] = {}
    # Probes come last, when the groups that they may join are known.
    for record in sorted(runs, key=is_probe):
        key = shared, options = _comparison(record), _options(record)
        part = shared, _obeyed(options)
        joined = [other for other in groups if (other[0], _obeyed(other[1])) == part]
        for each in (joined if is_probe(record) else []) or [key]:
            groups.setdefault(each, []).append(record)
    titled = [(_told_apart(*key, groups), groups[key]) for key in groups]
    return sorted(titled, key=lambda pair: pair[0])


def is_probe(record: Record) -> bool:
    return record["setting"]["learning_rate"] is None


def _obeyed(options: Options) -> Options:
    return frozenset(pair for pair in options if not pair[0].startswith(_TRAINING))


def _told_apart(shared: Comparison, own: Options, keys: Iterable[Any]) -> Comparison:
    """With what it has that not all others of its title share."""
    everywhere = own.intersection(*(o for title, o in keys if title == shared))
    words = [f"{_label(name)} {value}" for name, value in sorted(own - everywhere)]
    more = [f"{len(words) - _MOST} more"] if len(words) > _MOST else []
    return shared._replace(apart=", ".join([*words[:_MOST], *more]))


def _comparison(record: Record) -> Comparison:
    # The start that was asked for: LP-FT probes the head first in any case, and still
    # competes with the methods that begin with a new one.
    start = record["config"].get("model.start") or record["start"]
    size = record["config"].get("data.image_size") or record["image_size"]
    sides = list(dict.fromkeys(size)) if isinstance(size, list) else [size]
    said = {record["model"], start, *start.split()}
    words = [word for word in record["name"].split() if word not in said]
    return Comparison(
        data=" ".join(words) or record["name"],
        model=record["model"],
        start=start,
        stage=record["stage"],
        image_size=" x ".join(map(str, sides)),
    )


def _options(record: Record) -> Options:
    """All else that runs have to share; an option younger than a run had its default.

    The folder of images is one where nothing but its name says which data it holds.
    """
    every = records.options(record["config"], records.FREE)
    own = {(k, in_words(v)) for k, v in every.items() if k not in _OWN}
    own.add(("metric", record["metric"]["name"]))
    if any(str(value).startswith(_BUILT_FROM) for value in every.values()):
        folder = pathlib.PurePath(record["config"].get(_FOLDER) or "").name
        own.add((_FOLDER, folder))
    return frozenset(own)


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
