"""What a record of a run must hold before it is used: one table, and one sentence.

The table is `FIELDS`; what it does not name may be there or not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.files import RecordError
from experiments.methods import METHODS
from experiments.records import JOB

STAGES = ("tune", "final", "")  # "": a run of its own
GROUPS = ("id", "ood", "corruption")
# Control characters, what turns lines around, halves of pairs: no name has them.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
DEEPEST = 16  # levels of a record


# ---- The table ---------------------------------------------------------------------


class Kind(NamedTuple):
    """What a field may hold, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _one_of(*values: str) -> Kind:
    return Kind(f"one of {', '.join(map(repr, values))}", lambda x: x in values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(value is None or _is_number(value) for value in values)


def _is_list(value: Any, *types: type) -> bool:
    return isinstance(value, list) and all(type(item) in types for item in value)


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_option, value))
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _are_columns(value: Any) -> bool:
    lists = isinstance(value, dict) and [*value.values()]
    if not lists or not all(isinstance(column, list) for column in lists):
        return False
    return len({*map(len, lists)}) == 1 and all(map(_are_numbers, lists))


TEXT = Kind("a text", lambda x: isinstance(x, str))
TEXTS = Kind("a list of texts", lambda x: _is_list(x, str))
FLAG = Kind("true or false", lambda x: isinstance(x, bool))
WHOLE = Kind("a whole number", lambda x: type(x) is int and abs(x) < 2**53)
SIZE = Kind("one or two sides", lambda x: WHOLE.holds(x) or _is_list(x, int))
NUMBER = Kind("a finite number or null", lambda x: _are_numbers([x]))
OPTION = Kind("a text, a number, true, false, null or a list", _is_option)
OBJECT = Kind("an object", lambda x: isinstance(x, dict))
FIGURES = Kind(
    f"numbers and a group of {', '.join(GROUPS)}",
    lambda x: (
        isinstance(x, dict)
        and x.get("group") in GROUPS
        and _are_numbers(value for key, value in x.items() if key != "group")
    ),
)
COLUMN = Kind("a list of numbers", lambda x: isinstance(x, list) and _are_numbers(x))
COLUMNS = Kind("lists of numbers, all as long", _are_columns)
TRACE = Kind(
    COLUMNS.words,
    lambda x: (
        isinstance(x, dict)
        and isinstance(radii := x.get("radius", {}), dict)
        and _are_columns({"step": x.get("step"), "loss": x.get("loss"), **radii})
    ),
)

LEAF = ("drift", "radius", "bound", "norm")  # what a record has of each
# By path, `*` standing for any key and `?` after one that may be missing or null.
FIELDS = {
    "job": _one_of(JOB),
    "stage": _one_of(*STAGES),
    "run": TEXT,
    "name": TEXT,
    "method": _one_of(*METHODS),
    "seed": WHOLE,
    "status": TEXT,
    "model": TEXT,
    "start": TEXT,
    "image_size": SIZE,
    "metric/name": Kind(
        "a text, not 'group'", lambda x: TEXT.holds(x) and x != "group"
    ),
    "metric/higher_is_better": FLAG,
    "metric/unit": TEXT,
    "setting/learning_rate": NUMBER,
    "setting/strength": NUMBER,
    "setting/strength_name?": TEXT,
    "id_val": NUMBER,
    "evaluation/*": FIGURES,
    "layers": TEXTS,
    **dict.fromkeys((f"leaves/*/{x}" for x in LEAF), NUMBER),
    "config/*": OPTION,
    "config/method.name": TEXT,  # older records have no groups of options
    "config/model.start?": TEXT,
    "config/data.image_size?": SIZE,
    "config/io.source_dir?": TEXT,
    "seconds?": NUMBER,
    "tasks?": COLUMNS,
    "versions?/*": TEXT,
    "machine?": TEXT,
    "start_evaluation?/id_val?": NUMBER,
    "start_evaluation?/evaluation/*": FIGURES,
    "history?": COLUMNS,
    **dict.fromkeys((f"history?/{x}" for x in ("step", "loss", "id_val")), COLUMN),
    "trace?": TRACE,
    "trace?/step": Kind("a list of whole numbers", lambda x: _is_list(x, int)),
    "wise_curve?": COLUMNS,
    "wise_curve?/alpha": COLUMN,
}


# ---- The sentence ------------------------------------------------------------------


def check(record: Mapping[str, Any], place: str) -> None:
    """Raises a `RecordError` that begins with `place` unless the record can be used."""
    check_texts(record, place, [])
    for path, kind in FIELDS.items():
        check_field(record, path.split("/"), kind, place, [])


def check_field(
    value: Any, path: Sequence[str], kind: Kind, place: str, passed: list[str]
) -> None:
    """Goes down a path, through every key where it says so, and checks the end."""
    if not path:
        if not kind.holds(value):
            raise refused(place, passed, kind.words, value)
        return
    if not isinstance(value, Mapping):
        raise refused(place, passed, "an object", value)
    key = path[0].removesuffix("?")
    if key != path[0] and value.get(key) is None:
        return
    if key != "*" and key not in value:
        field = ".".join([*passed, key])
        raise RecordError(f"{place}: `{field}` is missing. Run it again.")
    for name in value if key == "*" else [key]:
        check_field(value[name], path[1:], kind, place, [*passed, name])


def check_texts(value: Any, place: str, passed: list[str]) -> None:
    """Raises a `RecordError` where a text, or a key, cannot be written on one line."""
    if len(passed) > DEEPEST:
        words = f"at most {DEEPEST} levels"
        raise refused(place, [*passed[:3], "..."], words, "more")
    if isinstance(value, str) and UNWRITABLE.search(value):
        raise refused(place, passed, "a text of whole, visible letters", value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_texts(key, place, [*passed, "a key"])
            check_texts(item, place, [*passed, key])
    elif isinstance(value, list):
        for item in value:
            check_texts(item, place, [*passed, "an item"])


def refused(place: str, passed: Sequence[str], words: str, value: Any) -> RecordError:
    field = ".".join(passed)
    return RecordError(f"{place}: `{field}`: expected {words}, got {value!r:.60}.")
