"""A study as one file: a line of what its runs share, then one line a run.

    {"schema": 1, "study": "pacs", "shared": {"model": ..., "config": {...}, ...}}
    {"stage": "tune", "run": "ftp-lr0.001-kappa1-seed0", "config": {...}, ...}

The first line holds the fields of a record, and options of its configuration, that a
run has unless its own line says otherwise. A sweep appends to the file and skips what
is in it; the report reads it.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.methods import METHODS
from experiments.records import JOB, RecordError, flat, jsonable

SCHEMA = 1
FILE = "study.jsonl"  # in the folder of a sweep
STAGES = ("tune", "final", "")  # "": a run of its own
GROUPS = ("id", "ood", "corruption")

Record = dict[str, Any]  # of a run; its `config` is one level, `{"data.flip": True}`
_NUMBER = (int, float)
_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}

# What a record must hold, as path -> types; the rest is optional.
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "method": (str,),
    "label": (str,),
    "seed": (int,),
    "status": (str,),
    "model": (str,),
    "start": (str,),
    "image_size": (int, list),
    "metric": (dict,),
    "metric.name": (str,),
    "metric.higher_is_better": (bool,),
    "metric.unit": (str,),
    "setting": (dict,),
    "setting.learning_rate": (*_NUMBER, type(None)),
    "setting.strength": (*_NUMBER, type(None)),
    "setting.strength_name": (str, type(None)),
    "evaluation": (dict,),
    "layers": (list,),
    "leaves": (dict,),
    "config": (dict,),
}
# Fields that runs usually share, and options of the configuration that they do not.
_SHARED = ("job", "name", "model", "image_size", "metric", "layers", "versions")
_OWN_OPTIONS = (
    *("method.name", "method.learning_rate", "method.strength"),
    *("seed", "io.trained_from"),
)
_LEFT_OUT = ("summary", "images_per_second")  # what the rest says again
_TRACED = {"tune": 8, "final": 24, "": 24}  # entries of a trace that are kept


class StudyError(RecordError):
    """A file or a record that cannot be used; names the file and the line."""


# ---- Reading -----------------------------------------------------------------------


def read(file: pathlib.Path) -> list[Record]:
    """The records of a study, each with its `stage` and `run`.

    A last line without an end was torn by a kill; it is left out.

    Raises:
      StudyError: the file is no study, or a line is damaged or foreign.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeError) as error:
        raise StudyError(f"{file} cannot be read as a study: {error}.") from error
    if not lines:
        return []
    shared = _header(file, _parsed(lines[0], f"{file}:1"))
    found: dict[tuple[str, str], Record] = {}
    for number, line in enumerate(lines[1:], 2):
        place = f"{file}:{number}"
        own = _parsed(line, place)
        config = shared["config"] | flat(own["config"])
        record = shared | own | {"config": config}
        check(record, place)
        key = str(record.get("stage")), str(record.get("run"))
        if key[0] not in STAGES or "run" not in record:
            raise StudyError(f"{place}: expected a `stage` and a `run`, got {key}.")
        if key in found:
            raise StudyError(f"{place}: {key[0]} {key[1]} is there twice.")
        found[key] = record
    return list(found.values())


def _header(file: pathlib.Path, header: Record) -> Record:
    shared = header.get("shared")
    known = isinstance(shared, dict) and isinstance(shared.get("config"), dict)
    if header.get("schema") != SCHEMA or not known:
        raise StudyError(
            f"{file}:1: expected the first line of a study with schema {SCHEMA}, got"
            f" {str(header)[:60]}."
        )
    return header["shared"] | {"config": flat(header["shared"]["config"])}


def _parsed(line: str, place: str) -> Record:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise StudyError(f"{place}: cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise StudyError(f"{place}: expected a JSON object, got {line[:40]!r}.")
    if not isinstance(content.setdefault("config", {}), dict):
        raise StudyError(f"{place}: `config`: expected an object.")
    return content


def check(record: Mapping[str, Any], place: str) -> None:
    """Raises a `StudyError` that begins with `place` unless the record can be used."""
    if record.get("job") != JOB:
        maker = record.get("job", "something unnamed")
        raise StudyError(f"{place}: not a run of {JOB}: it was made by {maker}.")
    for path, types in _FIELDS.items():
        value: Any = record
        for key in path.split("."):
            if key not in value:
                raise StudyError(f"{place}: `{path}` is missing. Run it again.")
            value = value[key]
        if not isinstance(value, types) or (type(value) is bool and bool not in types):
            words = _WORDS.get(types[0], "a number")
            raise StudyError(f"{place}: `{path}`: expected {words}, got {value!r}.")
    if record["method"] not in METHODS:
        raise StudyError(
            f"{place}: `method`: expected one of {', '.join(METHODS)}, got"
            f" {record['method']!r}."
        )
    if "method.name" not in flat(record["config"]):
        raise StudyError(
            f"{place}: `config`: `method.name` is missing; its options are older than"
            " their groups. Run it again."
        )
    for domain, entry in record["evaluation"].items():
        _check_numbers(entry, f"{place}: `evaluation`, {domain!r}", ("group",))
        if entry.get("group") not in GROUPS:
            raise StudyError(
                f"{place}: `evaluation`, {domain!r}: expected a group of"
                f" {', '.join(GROUPS)}, got {entry.get('group')!r}."
            )
    for leaf, entry in record["leaves"].items():
        _check_numbers(entry, f"{place}: `leaves`, {leaf!r}")


def _check_numbers(entry: Any, place: str, but: Sequence[str] = ()) -> None:
    """Raises a `StudyError` unless all values are numbers or missing."""
    if not isinstance(entry, Mapping) or not all(
        value is None or isinstance(value, _NUMBER) or name in but
        for name, value in entry.items()
    ):
        raise StudyError(f"{place}: expected numbers, got {str(entry)[:60]}.")


# ---- Writing -----------------------------------------------------------------------


def append(
    file: pathlib.Path, record: Mapping[str, Any], stage: str, run: str
) -> Record:
    """Adds a finished run to a study, which is created if it is missing.

    The line is written at once and synced. What a kill left of another is removed.

    Args:
      file: of the study.
      record: the content of the run's `metrics.json`.
      stage: "tune" or "final".
      run: its name, unique within the stage.

    Returns:
      The record as `read` will give it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"stage": stage, "run": run, **thinned(record, stage)}
    lines = []
    with file.open("a+b") as stream:
        stream.seek(0)
        first = stream.readline()
        if first.endswith(b"\n"):
            shared = _header(file, _parsed(first.decode(), f"{file}:1"))
            _drop_torn_line(stream)
        else:
            stream.truncate(0)
            shared = common([content], _SHARED, _OWN_OPTIONS)
            name = file.stem if file.name != FILE else file.absolute().parent.name
            lines.append({"schema": SCHEMA, "study": name, "shared": shared})
        lines.append(_differences(content, shared))
        stream.write("".join(_line(line) for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())
    return content


def _drop_torn_line(stream: Any) -> None:
    stream.seek(0)
    content = stream.read()
    stream.truncate(content.rfind(b"\n") + 1)


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def common(
    records: Sequence[Mapping[str, Any]], fields: Iterable[str], own: Iterable[str]
) -> Record:
    """The fields, and the options that are not runs' `own`, in which all agree."""
    first = records[0]
    same = lambda name: all(r.get(name) == first.get(name) for r in records)
    config = {
        name: value
        for name, value in first["config"].items()
        if name not in own
        and all(name in r["config"] and r["config"][name] == value for r in records)
    }
    shared = {k: first[k] for k in fields if k in first and same(k)}
    return shared | {"config": config}


def _differences(record: Record, shared: Record) -> Record:
    missing = object()
    differs = lambda name, value, other: other.get(name, missing) != value
    config = {
        k: v for k, v in record["config"].items() if differs(k, v, shared["config"])
    }
    own = {k: v for k, v in record.items() if differs(k, v, shared)}
    return own | {"config": config}


def thinned(record: Mapping[str, Any], stage: str) -> Record:
    """A record as a study keeps it: few entries of a trace, short numbers."""
    kept = {k: v for k, v in jsonable(record).items() if k not in _LEFT_OUT}
    kept["config"] = flat(kept["config"])
    kept["leaves"] = {k: _rounded(v, 9) for k, v in kept["leaves"].items()}
    if trace := kept.get("trace"):
        count = len(trace["step"])
        most = min(_TRACED[stage], count)
        shown = sorted({round((i + 1) * count / most) - 1 for i in range(most)})
        thin = lambda values: _rounded([values[i] for i in shown], 4)
        kept["trace"] = {
            "step": [trace["step"][i] for i in shown],
            "loss": thin(trace["loss"]),
            "radius": {k: thin(v) for k, v in trace.get("radius", {}).items()},
        }
    return kept


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v, digits) for v in value]
    return value if value is None else float(f"{value:.{digits}g}")
